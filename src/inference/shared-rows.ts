import type { Reservation, SequencePool } from './sequence-pool.js';

/** Rows in a sequence of their own that several requests begin with: a cartridge, or the first tokens of a prompt. */
export interface SharedRows {
  readonly key: string;
  readonly reservation: Reservation;
  /** The position behind the last row. */
  readonly end: number;
  /** Requests that hold them now; a loaded cartridge holds its own. */
  users: number;
  ready: boolean;
  /** The request that computes them, until they are ready; the others wait for it. */
  producer: object | undefined;
}

/** What a request needs of shared rows that may be there or not. */
export interface SharedRowsNeed {
  key: string;
  cells: number;
  end: number;
}

/** The shared rows of one context. Those without a user stay until their room is needed or the context is idle. */
export class SharedRowsTable {
  readonly #pool: SequencePool;
  /** In the order of their last use: a Map keeps the order of insertion. */
  readonly #rows = new Map<string, SharedRows>();

  constructor(pool: SequencePool) {
    this.#pool = pool;
  }

  get size(): number {
    return this.#rows.size;
  }

  get(key: string): SharedRows | undefined {
    return this.#rows.get(key);
  }

  /**
   * Takes a hold on all needs, making the ones that are missing (not `ready`), if room can be had for them, for `ownCells` and
   * for a sequence of its own. Undefined when it cannot: then nothing has changed but that unused rows were dropped.
   */
  hold(needs: readonly SharedRowsNeed[], ownCells: number): SharedRows[] | undefined {
    const present = needs.flatMap(({ key }) => this.#rows.get(key) ?? []);
    for (const rows of present) rows.users++;
    const missing = needs.filter(({ key }) => !this.#rows.has(key));
    const cells = missing.reduce((sum, need) => sum + need.cells, ownCells);
    if (!this.#makeRoom(cells, missing.length + 1)) {
      for (const rows of present) this.release(rows);
      return undefined;
    }
    for (const { key, cells, end } of missing) {
      this.#rows.set(key, { key, reservation: this.#pool.take(cells), end, users: 1, ready: false, producer: undefined });
    }
    return needs.map(({ key }) => this.#rows.get(key) as SharedRows);
  }

  /** Ends one hold. */
  release(rows: SharedRows): void {
    rows.users--;
    this.#rows.delete(rows.key);
    this.#rows.set(rows.key, rows);
  }

  dropUnused(): void {
    for (const rows of [...this.#rows.values()]) {
      if (rows.users === 0) this.#drop(rows);
    }
  }

  #makeRoom(cells: number, sequences: number): boolean {
    for (const rows of [...this.#rows.values()]) {
      if (this.#pool.hasRoom(cells, sequences)) return true;
      if (rows.users === 0) this.#drop(rows);
    }
    return this.#pool.hasRoom(cells, sequences);
  }

  #drop(rows: SharedRows): void {
    this.#rows.delete(rows.key);
    this.#pool.give(rows.reservation);
  }
}
