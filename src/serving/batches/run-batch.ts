import { randomBytes } from 'node:crypto';
import { toCartridgesError } from '../../core/errors.js';
import type { Caller } from '../caller.js';
import type { Dispatch, DispatchedResponse } from '../dispatch.js';
import { toErrorBody } from '../error-response.js';
import { RequestError } from '../request-error.js';
import { answerPatiently } from './answer-patiently.js';
import type { BatchError, BatchOutcome, BatchRecord } from './batch-record.js';
import { type BatchInput, type BatchRequest, readRequests, validateRequests } from './batch-requests.js';
import type { BatchStore } from './batch-store.js';
import type { FairSlots } from './fair-slots.js';
import { type RequestResult, ResultsLog } from './results-log.js';

export interface BatchRunParts {
  store: BatchStore;
  dispatch: Dispatch;
  /** Who a scope stands for; undefined when its key is gone. */
  callerOf: (scope: string) => Caller | undefined | Promise<Caller | undefined>;
  /** Resolves when a scope may go on. A request waits for that before it takes a slot, so that it keeps nobody else waiting. */
  whenAllowed: (scope: string, signal: AbortSignal) => Promise<void>;
  /** Places for requests of all batches. */
  slots: FairSlots;
  warn: (message: string) => void;
}

/** How a batch ends: `undefined` when the server stops, and the next one goes on with it. */
export interface BatchEnd {
  outcome: BatchOutcome | undefined;
  errors?: BatchError[];
}

/** Ends a batch for a reason that lies not in one request. */
class BatchFailure extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Validates a batch, when that was not done yet, and has its requests answered, all but those whose results are in the log.
 *
 * @param stop  Aborted with a {@link BatchEnd} as its reason.
 */
export async function runBatch(
  batch: BatchRecord,
  log: ResultsLog,
  parts: BatchRunParts,
  stop: AbortController,
): Promise<BatchEnd> {
  if (batch.outcome !== undefined) return { outcome: batch.outcome };
  if (batch.status === 'cancelling') return { outcome: 'cancelled' };
  if (stop.signal.aborted) return stop.signal.reason as BatchEnd;
  try {
    const errors = batch.total === undefined ? await validate(batch, parts.store) : [];
    if (errors.length > 0) return { outcome: 'failed', errors };
    await answerRequests(batch, log, parts, stop);
  } catch (error) {
    stopFor(error, batch, parts.warn, stop);
  }
  return stop.signal.aborted ? (stop.signal.reason as BatchEnd) : { outcome: 'completed' };
}

async function validate(batch: BatchRecord, store: BatchStore): Promise<BatchError[]> {
  const found = await validateRequests(inputOf(batch, store));
  if ('errors' in found) return found.errors;
  await store.update(batch, ({ status }) =>
    status === 'validating' ? { status: 'in_progress', total: found.total, inProgressAtMs: store.now() } : {},
  );
  return [];
}

/** Resolves when all requests are answered, or none is under way any more after a stop. */
async function answerRequests(batch: BatchRecord, log: ResultsLog, parts: BatchRunParts, stop: AbortController): Promise<void> {
  const underWay = new Set<Promise<void>>();
  try {
    for await (const request of readRequests(inputOf(batch, parts.store))) {
      if (log.has(request.index)) continue;
      await parts.whenAllowed(batch.scope, stop.signal);
      const leave = await parts.slots.take(batch.scope, stop.signal);
      const work = answerRequest(request, batch, parts, stop.signal)
        .then((result) => keep(result, batch, log, parts.store))
        .catch((error) => stopFor(error, batch, parts.warn, stop))
        .finally(() => {
          leave();
          underWay.delete(work);
        });
      underWay.add(work);
    }
  } finally {
    await Promise.all(underWay);
  }
}

async function answerRequest(
  { index, customId, body }: BatchRequest,
  { scope, endpoint }: BatchRecord,
  { callerOf, dispatch, store, warn }: BatchRunParts,
  signal: AbortSignal,
): Promise<RequestResult> {
  const caller = await callerOf(scope);
  if (caller === undefined) throw new BatchFailure('key_revoked', 'the key of this batch is gone');
  const patience = { policy: store.limits.busyRetry, signal, warn };
  const answer = await answerPatiently(() => dispatch(endpoint, body, caller, signal), patience);
  const { status } = answer;
  const json = resultLine(customId, { response: responseOf(answer), error: null });
  if (Buffer.byteLength(json) <= store.limits.maxAnswerBytes) return { index, failed: status >= 400, json };
  const message = `the answer has more than ${store.limits.maxAnswerBytes} bytes`;
  return { index, failed: true, json: resultLine(customId, { response: null, error: { code: 'answer_too_large', message } }) };
}

/** OpenAI's form of an answer in a line; it has no headers, so a warning is one more field where there is one. */
function responseOf({ status, body, warning }: DispatchedResponse): object {
  return { status_code: status, request_id: drawId('req'), body, ...(warning !== undefined && { warning }) };
}

async function keep(result: RequestResult, batch: BatchRecord, log: ResultsLog, store: BatchStore): Promise<void> {
  try {
    store.takeResult(batch, ResultsLog.size(result));
  } catch (error) {
    if (error instanceof RequestError) throw new BatchFailure('storage_full', error.message);
    throw error;
  }
  try {
    await log.append(result);
  } catch (error) {
    // From now on it takes no more: what fails once stays failed.
    store.countResults(batch, log.bytes);
    throw error;
  }
}

/** One line of the files that a batch writes. */
export function resultLine(customId: string, { response, error }: { response: unknown; error: unknown }): string {
  return JSON.stringify({ id: drawId('batch_req'), custom_id: customId, response, error });
}

/** What the requests of a batch are read from. */
export function inputOf({ inputFileId, endpoint }: BatchRecord, { files, limits }: BatchStore): BatchInput {
  return { path: files.path(inputFileId), endpoint, limits };
}

/** Ends a batch that cannot go on; what fails because it was stopped tells nothing new. */
function stopFor(thrown: unknown, { id }: BatchRecord, warn: (message: string) => void, stop: AbortController): void {
  if (!stop.signal.aborted) stop.abort(endOf(thrown, id, warn));
}

function endOf(thrown: unknown, id: string, warn: (message: string) => void): BatchEnd {
  if (thrown instanceof BatchFailure) return failed(thrown.code, thrown.message);
  const error = toCartridgesError(thrown);
  warn(`the batch ${id} failed: ${error.message}`);
  const { code, message } = toErrorBody(error).error;
  return failed(code, message);
}

function failed(code: string, message: string): BatchEnd {
  return { outcome: 'failed', errors: [{ code, message, line: null, param: null }] };
}

function drawId(kind: string): string {
  return `${kind}_${randomBytes(12).toString('hex')}`;
}
