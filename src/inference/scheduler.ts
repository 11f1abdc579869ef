import { setImmediate } from 'node:timers/promises';
import { CartridgesError, toCartridgesError } from '../core/errors.js';
import { Admission, type Start, type WaitingEntry } from './admission.js';
import { type BatchRows, collectBatch, draftRoom } from './batch.js';
import { CartridgeClaims } from './cartridge-claims.js';
import { CartridgeReads } from './cartridge-reads.js';
import { assumedRowCost, MeasuredRowCost } from './drafting/row-cost.js';
import { RoomCheck } from './room-check.js';
import { type CellUsage, RowCache, type StoredTurnUsage } from './row-cache.js';
import type { DecodeOutcome, SequenceContext } from './sequence-context.js';
import type { SequenceRun } from './sequence-run.js';
import type { CartridgeRows, SequenceWork } from './sequence-work.js';
import { Streak, type StreakStep } from './streak.js';

export interface SchedulerLimits {
  /** Sequences of the context: those of requests, of shared rows and of cached turns. */
  sequences: number;
  /** Requests that run at the same time; more of them wait. */
  runs: number;
  /** Positions of one sequence. */
  sequenceTokens: number;
  /** Keep the rows of finished requests for others, and read prompts side by side in place of in order. */
  retainTurns?: boolean;
  /** Cells that finished requests may keep while nobody uses them; all by default. */
  keptTurnCells?: number;
  /** Memory for copies of the rows beyond that; none by default. */
  storedTurnBytes?: number;
}

export interface EngineStatistics {
  decodeCalls: number;
  /** Rows of prompts that were computed, and prompt tokens that were shared instead. */
  promptTokens: number;
  cachedPromptTokens: number;
  /** Rows of new tokens that were computed, those of wrong drafts and behind the end of an answer left out. */
  newTokens: number;
  /** Tokens that were guessed and computed ahead, and those among them that came true. */
  draftedTokens: number;
  acceptedTokens: number;
  /** The most cells that were set aside at one time. */
  peakCells: number;
}

export interface SchedulerUsage extends CellUsage, StoredTurnUsage {
  running: number;
  waiting: number;
  residentCartridges: number;
  /** Time in decodes since the engine was made. */
  decodeSeconds: number;
}

/** The event loop is not held up for longer by choosing tokens. */
const LONGEST_TURN_MS = 4;
/** New tokens are passed on together that come within so long. One by one each costs a millisecond of a processor (Zen 3). */
const PART_MS = 50;
/** Waiting entries whose cartridges are read ahead. */
const READ_AHEAD = 8;

/**
 * Runs many sequences in one context, a decode at a time (continuous batching). A batch holds a row for each sequence that
 * generates, with what is drafted for it, then unread tokens of the others; where nothing else is to be done the next one is
 * computed before the tokens of the last are passed on. What is in a batch follows from the order of
 * submission and from token counts, never from the clock: work submitted in one tick starts together. Only where turns are kept
 * the clock tells how much is drafted.
 */
export class Scheduler {
  readonly #context: SequenceContext;
  readonly #limits: SchedulerLimits;
  readonly #cache: RowCache;
  readonly #check: RoomCheck;
  readonly #claims = new CartridgeClaims();
  readonly #reads = new CartridgeReads(() => this.wake());
  readonly #waiting = new Admission();
  /** What is done between two decodes as soon as it can be; false when it cannot yet. */
  readonly #chores = new Set<() => boolean>();
  readonly #rowCost: MeasuredRowCost | undefined;
  readonly #counts = {
    decodeCalls: 0,
    promptTokens: 0,
    cachedPromptTokens: 0,
    newTokens: 0,
    draftedTokens: 0,
    acceptedTokens: 0,
  };
  #decodeMs = 0;
  #lastDecodeMs = Number.POSITIVE_INFINITY;
  #runs: SequenceRun[] = [];
  /** Runs that are over and are still in the cache, and whether their rows may stay there for others. */
  readonly #ended = new Map<SequenceRun, boolean>();
  #loop: Promise<void> | undefined;
  /** Who wants shared rows to stay. */
  #keepers = 0;
  #isAwake = false;
  #onWake: (() => void) | undefined;
  #isBroken = false;
  #failure: CartridgesError | undefined;
  #closed = false;

  constructor(context: SequenceContext, limits: SchedulerLimits) {
    this.#context = context;
    this.#limits = limits;
    const { sequences, retainTurns = false, keptTurnCells = context.cells, storedTurnBytes = 0 } = limits;
    this.#cache = new RowCache(context, { sequences, retainTurns, keptTurnCells, storedTurnBytes });
    this.#check = new RoomCheck({ cells: context.cells, ...limits, sequences: this.#cache.sequences });
    this.#rowCost = limits.retainTurns ? new MeasuredRowCost() : undefined;
  }

  get statistics(): EngineStatistics {
    return { ...this.#counts, peakCells: this.#cache.peakCells };
  }

  get freeCells(): number {
    return this.#cache.freeCells;
  }

  get usage(): SchedulerUsage {
    const residentCartridges = this.#cache.residentCartridges.size;
    const running = this.#runs.length;
    const waiting = this.#waiting.requests;
    const { usage, storedTurns } = this.#cache;
    return { ...usage, ...storedTurns, running, waiting, residentCartridges, decodeSeconds: this.#decodeMs / 1000 };
  }

  /** Requests of a scope that wait. */
  waitingOf(scope: string): number {
    return this.#waiting.requestsOf(scope);
  }

  /** Why the context could not be made anew after a failed decode (`ENGINE_DOWN`); undefined when it could, or never had to. */
  get failure(): CartridgesError | undefined {
    return this.#failure;
  }

  /** Tries again to make the context anew where that has failed; whatever is submitted tries it too. */
  revive(): void {
    if (this.#failure && !this.#closed) void this.#soon(() => true);
  }

  isResident(cartridge: CartridgeRows): boolean {
    return this.#cache.residentCartridges.has(cartridge.key);
  }

  /** Queues work. Throws `CONTEXT_OVERFLOW` at once when it can never fit. */
  submit(work: SequenceWork): void {
    this.#check.checkWork(work);
    const { scope, cartridges } = work;
    this.#enqueue({
      scope,
      isRequest: true,
      cartridges,
      start: () => this.#startRun(work),
      isCancelled: () => work.cancelled,
      fail: (error) => {
        this.#claims.remove(cartridges);
        work.fail(error);
      },
    });
    this.#claims.add(cartridges);
  }

  /** Puts a cartridge into the cache to stay, behind what was submitted before. Throws `CONTEXT_OVERFLOW` when it cannot fit. */
  loadCartridge(cartridge: CartridgeRows): Promise<void> {
    this.#check.pin(cartridge);
    return this.#bring(cartridge, () => false).catch((error) => {
      this.#check.unpin(cartridge);
      throw error;
    });
  }

  /** Takes a cartridge that was to stay out again, once the work submitted before is done with it. */
  unloadCartridge(cartridge: CartridgeRows): Promise<void> {
    this.#check.unpin(cartridge);
    return this.#soon(() => {
      if (this.#claims.count(cartridge) > 0) return false;
      this.#cache.unpin(cartridge);
      this.#cache.drop(cartridge);
      return true;
    });
  }

  /** Puts a cartridge into the cache until its room is needed. Throws `CONTEXT_OVERFLOW`; rejects as reading it does. */
  async preloadCartridge(cartridge: CartridgeRows, signal?: AbortSignal): Promise<void> {
    this.#check.checkCartridge(cartridge);
    await this.#bring(
      cartridge,
      () => signal?.aborted ?? false,
      () => this.#cache.unpin(cartridge),
    );
  }

  /** Drops the rows of a cartridge and the turns behind it; false when requests use it or it is to stay. */
  async evictCartridge(cartridge: CartridgeRows): Promise<boolean> {
    let isDropped = false;
    await this.#soon(() => {
      if (this.#claims.count(cartridge) === 0 && !this.#check.isPinned(cartridge)) {
        this.#cache.drop(cartridge);
        isDropped = !this.isResident(cartridge);
      }
      return true;
    });
    return isDropped;
  }

  /** Resolves when the work that was submitted is done with a cartridge. */
  whenReleased(cartridge: CartridgeRows): Promise<void> {
    return this.#soon(() => this.#claims.count(cartridge) === 0);
  }

  /** Keeps shared rows also while nothing runs, until the function that it returns is called. */
  keepSharedRows(): () => void {
    this.#keepers++;
    return () => {
      this.#keepers--;
      if (!this.#loop) this.#settle();
    };
  }

  /** Has a look at what waits: something outside has changed, such as a signal. */
  wake(): void {
    this.#isAwake = true;
    // A dataset must not depend on the clock.
    if (this.#limits.retainTurns || this.#closed) this.#context.withdraw();
    this.#onWake?.();
    if (!this.#loop) this.#reads.follow([]);
  }

  /** Resolves when nothing runs or waits. */
  async whenIdle(): Promise<void> {
    while (this.#loop) await this.#loop;
  }

  /** Fails what runs and waits with `CANCELLED`; resolves when the running decode is over. */
  async close(): Promise<void> {
    this.#closed = true;
    this.wake();
    await this.whenIdle();
    this.#cache.dispose();
  }

  #enqueue(entry: WaitingEntry): void {
    this.#start();
    this.#waiting.add(entry);
  }

  #start(): void {
    if (this.#closed) throw new CartridgesError('CANCELLED', 'the engine is closed');
    this.#loop ??= this.#run();
    this.wake();
  }

  /** Has a chore done between two decodes. Rejects with what it throws, and does not try it again then: it may be half done. */
  #soon(attempt: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#start();
      this.#chores.add(() => {
        try {
          const isDone = attempt();
          if (isDone) resolve();
          return isDone;
        } catch (thrown) {
          reject(toCartridgesError(thrown));
          return true;
        }
      });
    });
  }

  /** Queues the loading of a cartridge; `then` is called with its rows in the cache. */
  #bring(cartridge: CartridgeRows, isCancelled: () => boolean, then?: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const start = async (): Promise<Start> => {
        const outcome = await this.#startPin(cartridge);
        if (outcome !== 'started') return outcome;
        then?.();
        resolve();
        return outcome;
      };
      this.#enqueue({ scope: '', isRequest: false, cartridges: [cartridge], start, isCancelled, fail: reject });
    });
  }

  async #run(): Promise<void> {
    await setImmediate();
    try {
      while (this.#runs.length > 0 || this.#waiting.size > 0 || this.#chores.size > 0) await this.#step();
    } catch (thrown) {
      this.#failAll(toCartridgesError(thrown));
      this.#doChores();
    }
    this.#settle();
    this.#reads.follow([]);
    this.#loop = undefined;
  }

  #settle(): void {
    if (this.#keepers === 0) this.#cache.settle();
  }

  async #step(): Promise<void> {
    this.#isAwake = false;
    this.#dropCancelled();
    this.#dropUnreadable();
    this.#doChores();
    if (this.#isBroken) await this.#rebuild();
    const first = this.#waiting.first(READ_AHEAD);
    this.#reads.follow(first.map(({ cartridges }) => this.#cache.missing(cartridges)));
    const started = await this.#waiting.admit({
      mayStart: () => this.#runs.length < this.#limits.runs,
      isIdle: () => this.#runs.length === 0,
    });
    if (this.#runs.length === 0 && !started) return this.#sleep();
    const finished = this.#runs.length > 0 ? await this.#decode() : started;
    if (finished) await this.#cache.trim();
    // Whoever waited for it may have a next request at hand: that belongs into the next batch, or at least before the end.
    if (finished) await setImmediate();
  }

  /** Waits for what is on its way to those that wait. */
  async #sleep(): Promise<void> {
    if (this.#isAwake || this.#waiting.size === 0) return setImmediate();
    await new Promise<void>((resolve) => {
      this.#onWake = resolve;
    });
    this.#onWake = undefined;
  }

  #dropCancelled(): void {
    const isCancelled = (cancelled: boolean) => cancelled || this.#closed;
    for (const run of this.#runs.filter(({ work }) => isCancelled(work.cancelled))) this.#failRun(run, cancelled());
    for (const entry of this.#waiting.remove((each) => isCancelled(each.isCancelled()))) entry.fail(cancelled());
  }

  #dropUnreadable(): void {
    for (const { cartridge, error } of this.#reads.takeFailures()) {
      for (const entry of this.#waiting.remove(({ cartridges }) => cartridges.includes(cartridge))) entry.fail(error);
    }
  }

  #doChores(): void {
    for (const chore of [...this.#chores]) if (chore()) this.#chores.delete(chore);
  }

  async #startRun(work: SequenceWork): Promise<Start> {
    const missing = this.#cache.missing(work.cartridges);
    if (!missing.every((cartridge) => this.#reads.isReady(cartridge))) return 'later';
    if (this.#cache.isBeingComputed(work, this.#runs)) return 'later';
    const run = await this.#cache.begin(work);
    if (!run) return 'full';
    try {
      await this.#cache.load(run);
      this.#runs.push(run);
    } catch (thrown) {
      this.#failRun(run, toCartridgesError(thrown));
    }
    for (const cartridge of missing) this.#reads.forget(cartridge);
    return 'started';
  }

  async #startPin(cartridge: CartridgeRows): Promise<Start> {
    if (this.#cache.missing([cartridge]).length > 0 && !this.#reads.isReady(cartridge)) return 'later';
    const isPinned = await this.#cache.pin(cartridge);
    if (isPinned) this.#reads.forget(cartridge);
    return isPinned ? 'started' : 'full';
  }

  /** Computes a batch, and those that follow from it alone; true when a run finished or failed. */
  async #decode(): Promise<boolean> {
    const rows = collectBatch(this.#context, this.#runs, {
      sideBySide: this.#limits.retainTurns ?? false,
      rowCost: (sequences) => this.#rowCostOf(sequences),
    });
    const batch = this.#runs.filter((run) => run.batchRows > 0);
    if (batch.length === 0) throw new CartridgesError('INTERNAL', 'no request can go on: all wait for another');
    const before = this.#runs.length;
    try {
      await this.#decodeStreak(batch, rows);
    } catch (thrown) {
      return this.#recover(toCartridgesError(thrown));
    }
    return this.#runs.length < before;
  }

  async #decodeStreak(batch: readonly SequenceRun[], rows: BatchRows): Promise<void> {
    const streak = new Streak(this.#context, batch);
    try {
      for (let isFirst = true; ; ) {
        const steps = await streak.next(this.#decodesAhead(batch, streak.underWay));
        if (steps.length === 0) break;
        for (const step of steps) {
          const pause = this.#take(step, batch, isFirst ? rows : this.#goOn(batch));
          // Tokens that came together are passed on together where they can be.
          if (pause) await pause;
          isFirst = false;
        }
      }
    } finally {
      await streak.end();
    }
    this.#releaseEnded();
  }

  /**
   * How many more tokens of these runs may be computed before anybody has seen those that are under way. What waits, chores too,
   * can only begin when a run ends or {@link wake} is called.
   */
  #decodesAhead(batch: readonly SequenceRun[], underWay: number): number {
    if (this.#isAwake || batch.length !== this.#runs.length) return 0;
    const most = Math.min(this.#decodesOfPart, ...batch.map((run) => run.decodesBehind(underWay)));
    if (most === 0) return 0;
    const room = Math.floor(draftRoom(this.#context, batch.length) / batch.length);
    const rowCost = this.#rowCostOf(batch.length);
    return batch.some((run) => run.wantsDraft(room, rowCost)) ? 0 : most;
  }

  get #decodesOfPart(): number {
    return this.#limits.retainTurns ? Math.max(1, Math.floor(PART_MS / this.#lastDecodeMs)) : 1;
  }

  /** The newest token of each run that is not over was computed as well. */
  #goOn(batch: readonly SequenceRun[]): BatchRows {
    const open = batch.filter((run) => !this.#ended.has(run));
    for (const run of open) run.goOn();
    return { newTokens: open.length, draftedTokens: 0, promptTokens: 0, cachedPromptTokens: 0 };
  }

  #rowCostOf(sequences: number): number {
    return this.#rowCost?.at(sequences) ?? assumedRowCost(sequences);
  }

  #take({ milliseconds, choices }: StreakStep, batch: readonly SequenceRun[], rows: BatchRows): Promise<void> | undefined {
    this.#counts.newTokens += rows.newTokens;
    this.#counts.draftedTokens += rows.draftedTokens;
    this.#counts.promptTokens += rows.promptTokens;
    this.#counts.cachedPromptTokens += rows.cachedPromptTokens;
    this.#decodeMs += milliseconds;
    this.#lastDecodeMs = milliseconds;
    this.#counts.decodeCalls++;
    this.#rowCost?.note({ ...rows, newTokens: batch.length }, milliseconds);
    return this.#advanceAll(batch, choices);
  }

  /** What the cache holds after a failed decode is not known: everything that was in it is lost. */
  async #recover(failure: CartridgesError): Promise<true> {
    const error = new CartridgesError('ENGINE_FAILURE', `the engine failed while it computed the request: ${failure.message}`, {
      hint: 'the engine starts anew; send the request again',
      cause: failure,
    });
    this.#releaseEnded();
    for (const run of this.#runs) this.#failRun(run, error);
    this.#isBroken = true;
    await this.#rebuild();
    return true;
  }

  async #rebuild(): Promise<void> {
    try {
      await this.#cache.rebuild();
    } catch (thrown) {
      this.#failure = engineDown(toCartridgesError(thrown));
      throw this.#failure;
    }
    this.#isBroken = false;
    this.#failure = undefined;
  }

  /**
   * Passes the next tokens on, and chooses those without a rule. That takes a millisecond at times, so others have their turn: then
   * the rest comes later, and there is something to wait for.
   */
  #advanceAll(batch: readonly SequenceRun[], choices: StreakStep['choices'], first = 0): Promise<void> | undefined {
    const started = performance.now();
    for (let index = first; index < batch.length; index++) {
      const run = batch[index] as SequenceRun;
      if (this.#ended.has(run)) continue;
      this.#advance(run, choices[index] ?? []);
      this.#counts.newTokens += run.acceptedTokens;
      this.#counts.acceptedTokens += run.acceptedTokens;
      run.leaveBatch();
      if (performance.now() - started < LONGEST_TURN_MS) continue;
      return setImmediate().then(() => this.#advanceAll(batch, choices, index + 1));
    }
    return undefined;
  }

  #advance(run: SequenceRun, choices: DecodeOutcome['choices']): void {
    try {
      if (run.advance(choices)) this.#endRun(run, true);
      else if (run.rows >= run.publishAt) this.#cache.publish(run);
    } catch (thrown) {
      this.#endRun(run, false);
      run.work.fail(toCartridgesError(thrown));
    }
  }

  #failRun(run: SequenceRun, error: CartridgesError): void {
    this.#endRun(run, false);
    this.#releaseEnded();
    run.work.fail(error);
  }

  /** A run is over. It leaves the cache by {@link #releaseEnded}, when no decode is under way. */
  #endRun(run: SequenceRun, keep: boolean): void {
    this.#runs = this.#runs.filter((other) => other !== run);
    this.#ended.set(run, keep);
    // Its place is free for others.
    if (this.#limits.retainTurns) this.#context.withdraw();
    const { prefix } = run;
    if (prefix?.producer === run) prefix.producer = this.#runs.find((other) => other.prefix === prefix);
  }

  #releaseEnded(): void {
    for (const [run, keep] of this.#ended) {
      this.#ended.delete(run);
      // The streak may have gone on before it was known.
      run.dropRowsBehind();
      this.#cache.end(run, keep);
      this.#claims.remove(run.work.cartridges);
    }
  }

  #failAll(error: CartridgesError): void {
    for (const run of this.#runs) this.#failRun(run, error);
    for (const entry of this.#waiting.remove(() => true)) entry.fail(error);
  }
}

function engineDown(cause: CartridgesError): CartridgesError {
  return new CartridgesError('ENGINE_DOWN', `the engine failed and could not be started anew: ${cause.message}`, {
    hint: 'free some memory; the next request tries again',
    cause,
  });
}

function cancelled(): CartridgesError {
  return new CartridgesError('CANCELLED', 'the request was cancelled');
}
