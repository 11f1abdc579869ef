import { commonLength } from './common-length.js';
import { originKey, type Placement, placements, sharedPrefix } from './placement.js';
import type { SequenceContext } from './sequence-context.js';
import { SequencePool } from './sequence-pool.js';
import { SequenceRun } from './sequence-run.js';
import type { CartridgeRows, SequenceWork } from './sequence-work.js';
import { type SharedRows, SharedRowsTable } from './shared-rows.js';
import { TurnCache } from './turn-cache.js';
import { TurnStore } from './turn-store.js';

/** A request waits for rows that another one is computing when they are this many: about what one decode costs. */
const WORTH_WAITING_ROWS = 32;

/** What the cells are used for; the parts add up to all cells of the context. */
export interface CellUsage {
  freeCells: number;
  /** Set aside for running requests, and turns that they stand on. */
  requestCells: number;
  cartridgeCells: number;
  /** Kept for later requests; given up when room is needed. */
  cachedTurnCells: number;
}

/** Turns that have left the cache. */
export interface StoredTurnUsage {
  /** Of the copies of their rows. */
  storedTurnBytes: number;
  /** How many could not be copied. */
  lostTurns: number;
}

export interface RowCacheSettings {
  sequences: number;
  /** Keep the rows of finished requests for others. */
  retainTurns: boolean;
  /** Cells that they may keep when nobody uses them; older ones leave the cache. */
  keptTurnCells: number;
  /** Of the copies of those that have left it. */
  storedTurnBytes: number;
}

/**
 * Who holds which cells of a context. A request takes all that it may come to need at its start. Room for it is made by giving
 * up cached turns first, then cartridges that nobody uses, each from the one that was not used for longest.
 */
export class RowCache {
  /** That requests, shared rows and turns may take. */
  readonly sequences: number;
  readonly #context: SequenceContext;
  readonly #pool: SequencePool;
  readonly #shared: SharedRowsTable;
  readonly #turns: TurnCache | undefined;
  readonly #store: TurnStore;
  readonly #keptTurnCells: number;
  readonly #makeRoom = async (cells: number, sequences: number): Promise<boolean> => {
    while (!this.#pool.hasRoom(cells, sequences)) {
      if (!(await this.#turns?.storeOldest()) && !this.#shared.dropOldest()) return false;
    }
    return true;
  };

  constructor(context: SequenceContext, { sequences, retainTurns, keptTurnCells, storedTurnBytes }: RowCacheSettings) {
    this.#context = context;
    this.#keptTurnCells = keptTurnCells;
    this.#store = new TurnStore(storedTurnBytes);
    this.sequences = retainTurns ? sequences - 1 : sequences;
    const pool = new SequencePool(context, sequences);
    const shared = new SharedRowsTable(pool);
    this.#pool = pool;
    this.#shared = shared;
    this.#turns = retainTurns ? new TurnCache({ context, pool, shared, store: this.#store }) : undefined;
  }

  get freeCells(): number {
    return this.#pool.freeCells;
  }

  get peakCells(): number {
    return this.#pool.peakCells;
  }

  get storedTurns(): StoredTurnUsage {
    return { storedTurnBytes: this.#store.bytes, lostTurns: this.#store.lost };
  }

  get usage(): CellUsage {
    const turns = this.#turns?.cells ?? { all: 0, inUse: 0 };
    let cartridgeCells = 0;
    let cachedTurnCells = turns.all - turns.inUse;
    for (const { cartridge, cells, users } of this.#shared.values()) {
      if (cartridge) cartridgeCells += cells;
      else if (users === 0) cachedTurnCells += cells;
    }
    const { freeCells } = this;
    const requestCells = this.#context.cells - freeCells - cartridgeCells - cachedTurnCells;
    return { freeCells, requestCells, cartridgeCells, cachedTurnCells };
  }

  /** Keys of the cartridges whose rows are in the cache. */
  get residentCartridges(): Set<string> {
    const keys = new Set<string>();
    for (const { cartridge, ready } of this.#shared.values()) if (cartridge && ready) keys.add(cartridge.key);
    return keys;
  }

  /** The cartridges of these that would have to be loaded first. */
  missing(cartridges: readonly CartridgeRows[]): CartridgeRows[] {
    return placements(cartridges).flatMap(({ key, cartridge }) => (this.#shared.get(key)?.ready ? [] : cartridge));
  }

  /**
   * Whether a running request is about to compute many of the first rows of this work, so that waiting for it is worth more than
   * starting. It will publish them.
   */
  isBeingComputed(work: SequenceWork, runs: readonly SequenceRun[]): boolean {
    if (!this.#turns) return false;
    const key = originKey(work.scope, placements(work.cartridges));
    const wanted = beginning(work);
    const known = this.#turns.knownLength(key, wanted);
    for (const run of runs) {
      if (run.isGenerating || run.strand?.node.origin.key !== key) continue;
      const common = commonLength(run.work.tokens, wanted);
      if (common - known < WORTH_WAITING_ROWS) continue;
      run.publishAt = Math.min(run.publishAt, common);
      return true;
    }
    return false;
  }

  /** Sets cells aside for work, with all rows that are there already; undefined when there is no room. */
  begin(work: SequenceWork): Promise<SequenceRun | undefined> {
    return this.#turns ? this.#beginBehindTurns(work, this.#turns) : this.#beginBehindPrefix(work);
  }

  /** Loads what a run stands on and is not there yet. */
  async load(run: SequenceRun): Promise<void> {
    for (const rows of run.cartridges) await this.#load(rows);
    if (!run.strand) return;
    await this.#turns?.restore(run.strand, beginning(run.work));
    run.catchUp();
  }

  /** Takes finished turns out of the cache that are beyond what they may keep there. */
  async trim(): Promise<void> {
    while (this.usage.cachedTurnCells > this.#keptTurnCells) if (!(await this.#turns?.storeOldest())) return;
  }

  /** Makes the rows that a run has computed known to others. */
  publish(run: SequenceRun): void {
    run.publishAt = run.isGenerating ? Number.POSITIVE_INFINITY : run.work.tokens.length;
    if (run.strand) this.#turns?.extend(run.strand, run.computedTokens());
  }

  /** Ends a run; with `keep` its rows may stay for others. Cartridges that could not be loaded for it do not stay. */
  end(run: SequenceRun, keep: boolean): void {
    const { strand } = run;
    if (keep) this.publish(run);
    if (!strand) this.#pool.give(run.reservation);
    else if (keep) this.#turns?.retire(strand);
    else this.#turns?.abandon(strand);
    for (const rows of run.prefix ? [run.prefix, ...run.cartridges] : run.cartridges) this.#shared.release(rows);
    this.#dropUnloaded();
  }

  /** Brings a cartridge into the cache, to stay until {@link unpin}; false when there is no room. Rejects when it cannot be loaded. */
  async pin(cartridge: CartridgeRows): Promise<boolean> {
    const held = await this.#shared.hold(placements([cartridge]), 0, this.#makeRoom);
    if (!held) return false;
    for (const rows of held) {
      await this.#load(rows).catch((error) => {
        this.#shared.release(rows);
        this.#dropUnloaded();
        throw error;
      });
    }
    return true;
  }

  unpin(cartridge: CartridgeRows): void {
    for (const { key } of placements([cartridge])) this.#shared.release(this.#shared.get(key) as SharedRows);
  }

  /** Drops a cartridge's rows and the turns behind them; no run may stand on them. */
  drop(cartridge: CartridgeRows): void {
    this.#turns?.dropBehind(cartridge);
    this.#shared.dropUnused((rows) => rows.cartridge?.key === cartridge.key);
  }

  /** Nothing runs: forgets what was only kept for what was running, and begins anew where nothing is left. */
  settle(): void {
    if (!this.#turns) this.#shared.dropUnused(({ cartridge }) => cartridge?.read === undefined);
    if (this.#shared.size === 0 && (this.#turns?.isEmpty ?? true)) this.#context.clear();
  }

  /** Frees what lies outside of the context. */
  dispose(): void {
    this.#store.clear();
  }

  /** Makes the context anew when all runs have ended; of what was in it only pinned cartridges come back by this. */
  async rebuild(): Promise<void> {
    while (this.#turns?.dropOldest());
    this.#shared.dropUnused(() => true);
    for (const rows of this.#shared.values()) rows.ready = false;
    await this.#context.rebuild();
    for (const rows of this.#shared.values()) await this.#load(rows);
  }

  async #beginBehindTurns(work: SequenceWork, turns: TurnCache): Promise<SequenceRun | undefined> {
    const places = placements(work.cartridges);
    const key = originKey(work.scope, places);
    const match = turns.match(key, beginning(work));
    const ownCells = work.tokens.length - (match?.length ?? 0) + work.newRows;
    const cartridges = await this.#shared.hold(places, ownCells, this.#makeRoom);
    if (!cartridges) {
      if (match) turns.forgo(match);
      return undefined;
    }
    const reservation = this.#pool.take(ownCells);
    const strand = turns.begin(key, match, reservation, cartridges);
    return new SequenceRun(this.#context, work, { reservation, cartridges, prefix: undefined, strand });
  }

  async #beginBehindPrefix(work: SequenceWork): Promise<SequenceRun | undefined> {
    const places: Placement[] = placements(work.cartridges);
    const prefixNeed = sharedPrefix(work, places);
    const ownCells = work.tokens.length - work.sharedTokens + work.newRows;
    const held = await this.#shared.hold(prefixNeed ? [...places, prefixNeed] : places, ownCells, this.#makeRoom);
    if (!held) return undefined;
    const reservation = this.#pool.take(ownCells);
    const [cartridges, prefix] = [held.slice(0, places.length), held[places.length]];
    const run = new SequenceRun(this.#context, work, { reservation, cartridges, prefix, strand: undefined });
    if (prefix && !prefix.ready) prefix.producer ??= run;
    return run;
  }

  async #load(rows: SharedRows): Promise<void> {
    if (rows.ready || !rows.cartridge) return;
    await this.#context.load(rows.reservation.sequence, rows.cartridge.stateBlob(rows.firstPosition ?? 0));
    rows.ready = true;
  }

  /** Whoever names the same content next may have it from another handle, which can be read where this one could not. */
  #dropUnloaded(): void {
    this.#shared.dropUnused(({ cartridge, ready }) => cartridge !== undefined && !ready);
  }
}

/** What work may take from others: all up to the row that it needs logits of. */
function beginning({ tokens, firstLogitsRow }: SequenceWork): Int32Array {
  return tokens.subarray(0, firstLogitsRow);
}
