import { setImmediate } from 'node:timers/promises';
import { CartridgesError, toCartridgesError } from '../core/errors.js';
import type { SequenceContext } from './sequence-context.js';
import { SequencePool } from './sequence-pool.js';
import { SequenceRun } from './sequence-run.js';
import { type CartridgeRows, cartridgeTokens, ownRows, type SequenceWork } from './sequence-work.js';
import { type SharedRows, type SharedRowsNeed, SharedRowsTable } from './shared-rows.js';

export interface SchedulerLimits {
  /** Sequences of the context: those of requests, of shared prefixes and of cartridges. */
  sequences: number;
  /** Requests that run at the same time; more of them wait in order. */
  runs: number;
  /** Positions of one sequence. */
  sequenceTokens: number;
}

export interface EngineStatistics {
  decodeCalls: number;
  /** Rows of prompts that were computed, and prompt tokens that were shared instead. */
  promptTokens: number;
  cachedPromptTokens: number;
  /** Rows of new tokens that were computed. */
  newTokens: number;
  /** The most cells that were set aside at one time. */
  peakCells: number;
}

/** Something that waits for its turn: a request, or a cartridge that comes or goes. */
interface Entry {
  /** False when there is no room yet. */
  start(): Promise<boolean>;
  isCancelled(): boolean;
  fail(error: CartridgesError): void;
}

/**
 * Runs many sequences in one context, a decode at a time (continuous batching). A batch holds a row for each sequence that
 * generates, then unread tokens of the others, in the order of their submission. What is in a batch follows from that order
 * and from token counts, never from the clock: work submitted in one tick starts together.
 */
export class Scheduler {
  readonly #context: SequenceContext;
  readonly #limits: SchedulerLimits;
  readonly #pool: SequencePool;
  readonly #shared: SharedRowsTable;
  readonly #waiting: Entry[] = [];
  readonly #counts = { decodeCalls: 0, promptTokens: 0, cachedPromptTokens: 0, newTokens: 0 };
  #runs: SequenceRun[] = [];
  #loop: Promise<void> | undefined;
  #cartridgeCells = 0;
  #cartridgeSequences = 0;
  #closed = false;

  constructor(context: SequenceContext, limits: SchedulerLimits) {
    this.#context = context;
    this.#limits = limits;
    this.#pool = new SequencePool(context, limits.sequences);
    this.#shared = new SharedRowsTable(this.#pool);
  }

  get statistics(): EngineStatistics {
    return { ...this.#counts, peakCells: this.#pool.peakCells };
  }

  get freeCells(): number {
    return this.#pool.freeCells;
  }

  /** Queues work. Throws `CONTEXT_OVERFLOW` at once when it can never fit. */
  submit(work: SequenceWork): void {
    this.#checkFits(work);
    this.#enqueue({
      start: () => this.#startRun(work),
      isCancelled: () => work.cancelled,
      fail: (error) => work.fail(error),
    });
  }

  /** Puts a cartridge into the cache, behind what was submitted before. Throws `CONTEXT_OVERFLOW` when it cannot fit. */
  loadCartridge(cartridge: CartridgeRows): Promise<void> {
    const cells = cartridge.tokenCount;
    this.#checkCells(cells, 1, `the cartridge of ${cells} tokens`);
    this.#cartridgeCells += cells;
    this.#cartridgeSequences++;
    return new Promise((resolve, reject) => {
      const fail = (error: unknown) => {
        this.#cartridgeCells -= cells;
        this.#cartridgeSequences--;
        reject(toCartridgesError(error));
      };
      const start = async () => {
        const places = placements([cartridge]);
        const held = this.#shared.hold(places, 0);
        if (!held) return false;
        await this.#loadRows(held, places).then(resolve, (error) => {
          for (const rows of held) this.#shared.release(rows);
          fail(error);
        });
        return true;
      };
      this.#enqueue({ start, isCancelled: () => false, fail });
    });
  }

  /** Takes a cartridge out again once the work submitted before is done with it. */
  unloadCartridge(cartridge: CartridgeRows): Promise<void> {
    this.#cartridgeCells -= cartridge.tokenCount;
    this.#cartridgeSequences--;
    return new Promise((resolve, reject) => {
      const start = async () => {
        for (const { key } of placements([cartridge])) this.#shared.release(this.#shared.get(key) as SharedRows);
        this.#shared.dropUnused();
        resolve();
        return true;
      };
      this.#enqueue({ start, isCancelled: () => false, fail: reject });
    });
  }

  /** Resolves when nothing runs or waits. */
  async whenIdle(): Promise<void> {
    while (this.#loop) await this.#loop;
  }

  /** Fails what runs and waits with `CANCELLED`; resolves when the running decode is over. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.whenIdle();
  }

  #enqueue(entry: Entry): void {
    if (this.#closed) throw new CartridgesError('CANCELLED', 'the engine is closed');
    this.#waiting.push(entry);
    this.#loop ??= this.#run();
  }

  async #run(): Promise<void> {
    await setImmediate();
    try {
      while (this.#runs.length > 0 || this.#waiting.length > 0) await this.#step();
    } catch (thrown) {
      this.#failAll(toCartridgesError(thrown));
    }
    this.#shared.dropUnused();
    if (this.#shared.size === 0) this.#context.clear();
    this.#loop = undefined;
  }

  async #step(): Promise<void> {
    this.#dropCancelled();
    const started = await this.#admit();
    const finished = this.#runs.length > 0 ? await this.#decode() : started;
    // Whoever waited for it may have a next request at hand: that belongs into the next batch, or at least before the end.
    if (finished) await setImmediate();
  }

  #dropCancelled(): void {
    const isCancelled = (cancelled: boolean) => cancelled || this.#closed;
    const error = new CartridgesError('CANCELLED', 'the request was cancelled');
    for (const run of this.#runs.filter(({ work }) => isCancelled(work.cancelled))) this.#failRun(run, error);
    const dropped = new Set(this.#waiting.filter((entry) => isCancelled(entry.isCancelled())));
    if (dropped.size === 0) return;
    const kept = this.#waiting.filter((entry) => !dropped.has(entry));
    this.#waiting.splice(0, this.#waiting.length, ...kept);
    for (const entry of dropped) entry.fail(error);
  }

  /** Starts what waits, in order, as long as there is room; true when something did. */
  async #admit(): Promise<boolean> {
    let started = 0;
    while (this.#waiting.length > 0 && this.#runs.length < this.#limits.runs) {
      const entry = this.#waiting[0] as Entry;
      const fits = await entry.start();
      if (!fits && this.#runs.length > 0) break;
      this.#waiting.shift();
      if (!fits) entry.fail(new CartridgesError('CONTEXT_OVERFLOW', 'loaded cartridges left no room for a request'));
      started++;
    }
    return started > 0;
  }

  async #startRun(work: SequenceWork): Promise<boolean> {
    const places = placements(work.cartridges);
    const prefixNeed = sharedPrefix(work, places);
    const held = this.#shared.hold(prefixNeed ? [...places, prefixNeed] : places, ownRows(work));
    if (!held) return false;
    const reservation = this.#pool.take(ownRows(work));
    const cartridges = held.slice(0, places.length);
    const run = new SequenceRun(this.#context, work, { reservation, cartridges, prefix: held[places.length] });
    if (run.prefix && !run.prefix.ready) run.prefix.producer ??= run;
    this.#runs.push(run);
    await this.#loadRows(cartridges, places).catch((thrown) => this.#failRun(run, toCartridgesError(thrown)));
    return true;
  }

  /** Loads those of the held cartridge rows that are not there yet. */
  async #loadRows(held: readonly SharedRows[], places: readonly Placement[]): Promise<void> {
    for (const [index, { cartridge, firstPosition }] of places.entries()) {
      const rows = held[index] as SharedRows;
      if (rows.ready) continue;
      await this.#context.load(rows.reservation.sequence, cartridge.stateBlob(firstPosition));
      rows.ready = true;
    }
  }

  /** Computes one batch; true when a run finished or failed. */
  async #decode(): Promise<boolean> {
    this.#collectRows();
    const batch = this.#runs.filter((run) => run.batchRows > 0);
    if (batch.length === 0) throw new CartridgesError('INTERNAL', 'no request can go on: all wait for another');
    const before = this.#runs.length;
    const failure = await this.#context.decode().then(() => undefined, toCartridgesError);
    this.#counts.decodeCalls++;
    for (const run of batch) {
      if (failure) this.#failRun(run, failure);
      else this.#advance(run);
      run.leaveBatch();
    }
    return this.#runs.length < before;
  }

  #collectRows(): void {
    const { batchRows, logitsRows } = this.#context;
    let rows = 0;
    for (const run of this.#runs) {
      if (run.isGenerating) run.addNewToken(rows++);
    }
    this.#counts.newTokens += rows;
    let wanted = rows;
    for (const run of this.#runs) {
      if (rows === batchRows) break;
      const cachedTokens = run.isGenerating ? undefined : run.attach();
      if (cachedTokens === undefined) continue;
      const added = run.addTokens(rows, batchRows - rows, logitsRows - wanted);
      rows += added.rows;
      wanted += added.logitsRows;
      this.#counts.promptTokens += added.rows;
      this.#counts.cachedPromptTokens += cachedTokens;
    }
  }

  #advance(run: SequenceRun): void {
    try {
      if (run.advance()) this.#endRun(run);
    } catch (thrown) {
      this.#failRun(run, toCartridgesError(thrown));
    }
  }

  #failRun(run: SequenceRun, error: CartridgesError): void {
    this.#endRun(run);
    run.work.fail(error);
  }

  #endRun(run: SequenceRun): void {
    this.#runs = this.#runs.filter((other) => other !== run);
    this.#pool.give(run.reservation);
    const { prefix } = run;
    if (prefix?.producer === run) prefix.producer = this.#runs.find((other) => other.prefix === prefix);
    for (const rows of prefix ? [prefix, ...run.cartridges] : run.cartridges) this.#shared.release(rows);
  }

  #failAll(error: CartridgesError): void {
    for (const run of this.#runs) this.#failRun(run, error);
    for (const entry of this.#waiting.splice(0)) entry.fail(error);
  }

  #checkFits(work: SequenceWork): void {
    const before = cartridgeTokens(work);
    const length = before + work.tokens.length + work.newRows;
    const parts = `${before} of cartridges, ${work.tokens.length} of the prompt, ${work.newRows} new`;
    if (length > this.#limits.sequenceTokens) {
      throw new CartridgesError(
        'CONTEXT_OVERFLOW',
        `a request needs ${length} tokens (${parts}), one sequence has room for ${this.#limits.sequenceTokens}`,
        { hint: 'shorten the prompt, ask for fewer new tokens, or use a model with a longer context' },
      );
    }
    // The first cartridge is loaded already; another one is needed again, behind it.
    const copies = placements(work.cartridges).slice(1);
    const cells = copies.reduce((sum, copy) => sum + copy.cells, work.tokens.length + work.newRows);
    this.#checkCells(cells, copies.length + (work.sharedTokens > 0 ? 2 : 1), `a request of ${length} tokens (${parts})`);
  }

  #checkCells(cells: number, sequences: number, what: string): void {
    const free = this.#context.cells - this.#cartridgeCells;
    if (cells > free) {
      throw new CartridgesError(
        'CONTEXT_OVERFLOW',
        `${what} needs ${cells} cells of the cache, ${free} of ${this.#context.cells} are not taken by cartridges`,
        { hint: 'make the context larger, or the request shorter' },
      );
    }
    if (sequences > this.#limits.sequences - this.#cartridgeSequences) {
      throw new CartridgesError('CONTEXT_OVERFLOW', `${what} needs a sequence beyond the ${this.#limits.sequences} there are`, {
        hint: 'unload some cartridges',
      });
    }
  }
}

interface Placement extends SharedRowsNeed {
  cartridge: CartridgeRows;
  firstPosition: number;
}

/** Where cartridges lie that stand behind each other. The same one has other labels, and so other cells, at another place. */
function placements(cartridges: readonly CartridgeRows[]): Placement[] {
  let end = 0;
  return cartridges.map((cartridge) => {
    const firstPosition = end;
    end += cartridge.tokenCount;
    return { cartridge, firstPosition, key: `${cartridge.key}@${firstPosition}`, cells: cartridge.tokenCount, end };
  });
}

function sharedPrefix(work: SequenceWork, places: readonly Placement[]): SharedRowsNeed | undefined {
  const { tokens, sharedTokens } = work;
  if (sharedTokens === 0) return undefined;
  const bytes = Buffer.from(tokens.buffer, tokens.byteOffset, sharedTokens * tokens.BYTES_PER_ELEMENT);
  const key = [...places.map((place) => place.key), bytes.toString('base64')].join(' ');
  return { key, cells: sharedTokens, end: (places.at(-1)?.end ?? 0) + sharedTokens };
}
