import type { Reservation, SequencePool } from './sequence-pool.js';
import type { CartridgeRows } from './sequence-work.js';

/** What a request needs of shared rows that may be there or not. */
export interface SharedRowsNeed {
  readonly key: string;
  readonly cells: number;
  /** The position behind the last row. */
  readonly end: number;
  /** The cartridge that they are loaded from, and where; first tokens of a prompt are computed by a request. */
  readonly cartridge?: CartridgeRows;
  readonly firstPosition?: number;
}

/** Rows in a sequence of their own that several requests begin with: a cartridge, or the first tokens of a prompt. */
export interface SharedRows extends SharedRowsNeed {
  readonly reservation: Reservation;
  /** Who holds them now: requests, cached turns behind them, and a pin where a cartridge is to stay. */
  users: number;
  ready: boolean;
  /** The request that computes them, until they are ready; the others wait for it. */
  producer: object | undefined;
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

  values(): Iterable<SharedRows> {
    return this.#rows.values();
  }

  /**
   * Takes a hold on all needs, making the ones that are missing (not `ready`), if `makeRoom` has room for them, for `ownCells`
   * and for a sequence of its own. Undefined when it has not: then nothing is held.
   */
  async hold(
    needs: readonly SharedRowsNeed[],
    ownCells: number,
    makeRoom: (cells: number, sequences: number) => Promise<boolean>,
  ): Promise<SharedRows[] | undefined> {
    const present = needs.flatMap(({ key }) => this.#rows.get(key) ?? []);
    for (const rows of present) rows.users++;
    const missing = needs.filter(({ key }) => !this.#rows.has(key));
    const cells = missing.reduce((sum, need) => sum + need.cells, ownCells);
    if (!(await makeRoom(cells, missing.length + 1))) {
      for (const rows of present) this.release(rows);
      return undefined;
    }
    for (const need of missing) {
      const reservation = this.#pool.take(need.cells);
      this.#rows.set(need.key, { ...need, reservation, users: 1, ready: false, producer: undefined });
    }
    return needs.map(({ key }) => this.#rows.get(key) as SharedRows);
  }

  /** Ends one hold. */
  release(rows: SharedRows): void {
    rows.users--;
    this.#rows.delete(rows.key);
    this.#rows.set(rows.key, rows);
  }

  /** Drops the rows that nobody holds and nobody used for longest; false when there are none. */
  dropOldest(): boolean {
    for (const rows of this.#rows.values()) {
      if (rows.users > 0) continue;
      this.#drop(rows);
      return true;
    }
    return false;
  }

  dropUnused(matching: (rows: SharedRows) => boolean): void {
    for (const rows of [...this.#rows.values()]) {
      if (rows.users === 0 && matching(rows)) this.#drop(rows);
    }
  }

  #drop(rows: SharedRows): void {
    this.#pool.give(rows.reservation);
    this.#rows.delete(rows.key);
  }
}
