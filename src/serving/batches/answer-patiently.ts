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

class ServerBusy extends TransientFailure {
  readonly response: DispatchedResponse;

  constructor(response: DispatchedResponse) {
    super(`the server answered ${response.status}`);
    this.response = response;
  }
}

/**
 * Asks again while the server is too busy (429 and 503), with pauses that double, and returns its last answer. Rejects with
 * `CANCELLED` when the signal is aborted; any other failure is an answer too, with the status 500.
 */
export async function answerPatiently(
  ask: () => Promise<DispatchedResponse>,
  { policy, signal, warn }: Patience,
): Promise<DispatchedResponse> {
  try {
    return await withRetries(
      () => askOnce(ask, signal),
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
async function askOnce(ask: () => Promise<DispatchedResponse>, signal: AbortSignal): Promise<DispatchedResponse> {
  throwIfAborted(signal);
  const response = await ask();
  if (response.status >= 400) throwIfAborted(signal);
  if (response.status === 429 || response.status === 503) throw new ServerBusy(response);
  return response;
}
