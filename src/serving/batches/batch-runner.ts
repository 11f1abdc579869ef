import { setMaxListeners } from 'node:events';
import { toCartridgesError } from '../../core/errors.js';
import { RequestError } from '../request-error.js';
import { type BatchRecord, isFinished } from './batch-record.js';
import { FairSlots } from './fair-slots.js';
import { finishBatch } from './finish-batch.js';
import { ResultsLog } from './results-log.js';
import { type BatchEnd, type BatchRunParts, runBatch } from './run-batch.js';

interface RunningBatch {
  /** Its reason is a {@link BatchEnd}. */
  stop: AbortController;
  done: Promise<void>;
  /** Open once it is its turn. */
  log?: ResultsLog;
}

/** Runs the batches of a store: keys take turns, for whole batches and for each request. */
export class BatchRunner {
  readonly #parts: BatchRunParts;
  readonly #turns: FairSlots;
  readonly #running = new Map<string, RunningBatch>();
  #isClosed = false;

  constructor(parts: Omit<BatchRunParts, 'slots'>) {
    const { limits } = parts.store;
    this.#parts = { ...parts, slots: new FairSlots(limits.concurrentRequests) };
    this.#turns = new FairSlots(limits.runningBatches);
  }

  /** Goes on with what an earlier server left unfinished, and with batches whose end could not be written. */
  resume(): void {
    for (const batch of this.#parts.store.unfinished()) this.run(batch);
  }

  /** Runs a batch as soon as it is its turn, unless it runs already or has ended. */
  run(batch: BatchRecord): void {
    if (this.#isClosed || isFinished(batch) || this.#running.has(batch.id)) return;
    const stop = new AbortController();
    // Every request under way listens; that is no leak.
    setMaxListeners(0, stop.signal);
    const running: RunningBatch = { stop, done: Promise.resolve() };
    const leftMs = batch.expiresAtMs - this.#parts.store.now();
    const timer = setTimeout(() => stop.abort({ outcome: 'expired' } satisfies BatchEnd), Math.max(0, leftMs));
    this.#running.set(batch.id, running);
    running.done = this.#run(batch, running)
      .catch((error) => this.#parts.warn(`${batch.id} is tried again later: ${toCartridgesError(error).message}`))
      .finally(() => {
        clearTimeout(timer);
        this.#running.delete(batch.id);
      });
  }

  /** Stops a batch, with the requests that are under way. Throws 404, or 409 when it has ended or is about to. */
  async cancel(scope: string, id: string): Promise<BatchRecord> {
    const { store } = this.#parts;
    const found = store.get(scope, id);
    // What is only to be written can be tried again, and not be cancelled any more.
    if (found.outcome !== undefined) this.run(found);
    const batch = await store.update(found, cancelAt(store.now()));
    this.run(batch);
    this.#running.get(id)?.stop.abort({ outcome: 'cancelled' } satisfies BatchEnd);
    return batch;
  }

  /** A batch with its requests counted as of now. */
  withCounts(batch: BatchRecord): BatchRecord {
    const log = this.#running.get(batch.id)?.log;
    return log === undefined ? batch : { ...batch, counts: log.counts };
  }

  /** Stops all batches where they are; the next start goes on. Resolves when nothing is under way any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const { stop } of this.#running.values()) stop.abort({ outcome: undefined } satisfies BatchEnd);
    await Promise.all([...this.#running.values()].map(({ done }) => done));
  }

  async #run(batch: BatchRecord, running: RunningBatch): Promise<void> {
    const { store } = this.#parts;
    const { stop } = running;
    const leave = await this.#waitForTurn(batch, stop.signal);
    try {
      const log = await ResultsLog.open(store.resultsPath(batch.id), store.limits.maxAnswerBytes);
      running.log = log;
      store.countResults(batch, log.bytes);
      try {
        const end = await runBatch(store.get(batch.scope, batch.id), log, this.#parts, stop);
        if (end.outcome === undefined) await store.update(batch, () => ({ counts: log.counts }));
        else await finishBatch(store, batch, end, log);
      } finally {
        await log.close();
      }
    } finally {
      leave();
    }
  }

  /** One that is stopped while it waits needs no turn to end. */
  async #waitForTurn({ scope }: BatchRecord, signal: AbortSignal): Promise<() => void> {
    try {
      return await this.#turns.take(scope, signal);
    } catch (error) {
      if (signal.aborted) return () => {};
      throw error;
    }
  }
}

function cancelAt(now: number): (current: BatchRecord) => Partial<BatchRecord> {
  return ({ id, status, outcome }) => {
    if (status === 'cancelling' || status === 'cancelled') return {};
    if (outcome === undefined) return { status: 'cancelling', cancellingAtMs: now };
    throw new RequestError(409, `the batch ${JSON.stringify(id)} cannot be cancelled any more: it is ${status}`);
  };
}
