import { z } from 'zod';
import { throwIfAborted, toCartridgesError } from '../../core/errors.js';
import { type RetryPolicy, TransientFailure, withRetries } from '../../core/retry.js';
import type { DispatchedResponse } from '../dispatch.js';
import { toErrorBody } from '../error-response.js';

export interface Patience {
  policy: RetryPolicy;
  signal: AbortSignal;
  /** Told of answers that did not come because something is wrong here. */
  warn: (message: string) => void;
}

const MAX_ENGINE_FAILURES = 2;
const ENGINE_FAILURE = z.object({ error: z.object({ code: z.literal('engine_failure') }) });

class ServerBusy extends TransientFailure {
  readonly response: DispatchedResponse;

  constructor(response: DispatchedResponse) {
    super(`the server answered ${response.status}`);
    this.response = response;
  }
}

/**
 * Asks again while the server is too busy (429 and 503), and a few times when its engine failed, with pauses that double, and
 * returns its last answer. Rejects with `CANCELLED` when the signal is aborted; any other failure is an answer too, with the status 500.
 */
export async function answerPatiently(
  ask: () => Promise<DispatchedResponse>,
  { policy, signal, warn }: Patience,
): Promise<DispatchedResponse> {
  let engineFailures = 0;
  // A request that itself breaks the engine must not break the answers of others again and again.
  const isWorthAsking = (response: DispatchedResponse) =>
    isBusy(response) || (isEngineFailure(response) && ++engineFailures <= MAX_ENGINE_FAILURES);
  try {
    return await withRetries(
      () => askOnce(ask, signal, isWorthAsking),
      { policy, signal, onRetry: () => {} },
      (failure) => failure,
    );
  } catch (error) {
    if (error instanceof ServerBusy) return error.response;
    throwIfAborted(signal);
    warn(`a request of a batch was not answered: ${toCartridgesError(error).message}`);
    return { status: 500, body: toErrorBody(error) };
  }
}

/** What was broken off is no answer, whatever it looks like; one that was complete before is. */
async function askOnce(
  ask: () => Promise<DispatchedResponse>,
  signal: AbortSignal,
  isWorthAsking: (response: DispatchedResponse) => boolean,
): Promise<DispatchedResponse> {
  throwIfAborted(signal);
  const response = await ask();
  if (response.status >= 400) throwIfAborted(signal);
  if (isWorthAsking(response)) throw new ServerBusy(response);
  return response;
}

function isBusy({ status }: DispatchedResponse): boolean {
  return status === 429 || status === 503;
}

/** The engine is made anew then: the same request may do better. */
function isEngineFailure({ status, body }: DispatchedResponse): boolean {
  return status === 500 && ENGINE_FAILURE.safeParse(body).success;
}
