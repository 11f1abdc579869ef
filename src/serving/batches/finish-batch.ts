import type { BatchOutcome, BatchRecord } from './batch-record.js';
import { readRequests } from './batch-requests.js';
import type { BatchStore } from './batch-store.js';
import type { FileDraft } from './file-draft.js';
import { newFileId } from './file-store.js';
import type { ResultsLog } from './results-log.js';
import { type BatchEnd, inputOf, resultLine } from './run-batch.js';

/** Bytes that are collected before they are written. */
const WRITE_BYTES = 1 << 18;

const UNANSWERED: Record<BatchOutcome, { code: string; message: string }> = {
  completed: { code: 'batch_unanswered', message: 'the request was not answered' },
  failed: { code: 'batch_failed', message: 'the batch failed before this request was answered' },
  cancelled: { code: 'batch_cancelled', message: 'the batch was cancelled before this request was answered' },
  expired: { code: 'batch_expired', message: 'the completion window was over before this request was answered' },
};

/**
 * Writes the files of a batch, in the order of its input, and ends it. The ids of the files are drawn and kept before, so that a
 * crash or a failure in between leads to the same files; those that are there already are not written again.
 */
export async function finishBatch(store: BatchStore, batch: BatchRecord, end: BatchEnd, log: ResultsLog): Promise<void> {
  const ending = await store.update(batch, (current) => planEnd(current, end, log, store.now()));
  await writeFiles(store, ending, log);
  await store.finish(ending);
}

function planEnd(current: BatchRecord, { outcome, errors }: BatchEnd, log: ResultsLog, now: number): Partial<BatchRecord> {
  if (current.outcome !== undefined) return {};
  const counts = log.counts;
  const unanswered = (current.total ?? 0) - counts.completed - counts.failed;
  const isCancelled = current.status === 'cancelling';
  const writesFiles = outcome === 'completed' || outcome === 'expired';
  return {
    outcome: isCancelled ? 'cancelled' : outcome,
    counts,
    ...(errors && { errors }),
    ...(writesFiles && !isCancelled && { status: 'finalizing', finalizingAtMs: now }),
    ...(counts.completed > 0 && { outputFileId: newFileId() }),
    ...(counts.failed + unanswered > 0 && { errorFileId: newFileId() }),
  };
}

async function writeFiles(store: BatchStore, batch: BatchRecord, log: ResultsLog): Promise<void> {
  if (batch.total === undefined) return;
  const output = missingFile(store, batch, batch.outputFileId, 'output');
  const errors = missingFile(store, batch, batch.errorFileId, 'error');
  try {
    for await (const { index, customId } of readRequests(inputOf(batch, store))) {
      const result = await log.read(index);
      if (result) await (result.failed ? errors : output)?.add(result.json);
      else await errors?.add(resultLine(customId, { response: null, error: UNANSWERED[batch.outcome!] }));
    }
    await output?.publish();
    await errors?.publish();
  } catch (error) {
    await output?.discard();
    await errors?.discard();
    throw error;
  }
}

/** A file that is still to be written, if it is one of those that the batch writes. */
function missingFile(store: BatchStore, batch: BatchRecord, id: string | undefined, kind: string): ResultFile | undefined {
  return id === undefined || store.files.has(batch.scope, id) ? undefined : new ResultFile(store, batch, id, kind);
}

/** One of the files that a batch writes. */
class ResultFile {
  readonly #store: BatchStore;
  readonly #batch: BatchRecord;
  readonly #id: string;
  readonly #kind: string;
  /** From the first bytes until it is published. */
  #draft: FileDraft | undefined;
  #lines: string[] = [];
  #length = 0;

  constructor(store: BatchStore, batch: BatchRecord, id: string, kind: string) {
    this.#store = store;
    this.#batch = batch;
    this.#id = id;
    this.#kind = kind;
  }

  async add(line: string): Promise<void> {
    this.#lines.push(line, '\n');
    this.#length += line.length;
    if (this.#length >= WRITE_BYTES) await this.#flush();
  }

  async publish(): Promise<void> {
    const draft = await this.#flush();
    const { id, outputSeconds } = this.#batch;
    const details = { filename: `${id}_${this.#kind}.jsonl`, purpose: 'batch_output' as const };
    await this.#store.publish(draft, { ...details, expiresAfterSeconds: outputSeconds }, this.#id);
    this.#draft = undefined;
  }

  /** Removes what was written of it; one that was published stays. */
  async discard(): Promise<void> {
    await this.#draft?.discard();
  }

  async #flush(): Promise<FileDraft> {
    this.#draft ??= await this.#store.files.beginOutput(this.#batch.scope);
    const text = this.#lines.join('');
    this.#lines = [];
    this.#length = 0;
    await this.#draft.write(Buffer.from(text));
    return this.#draft;
  }
}
