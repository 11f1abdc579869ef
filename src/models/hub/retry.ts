import { setTimeout as sleep } from 'node:timers/promises';
import { CartridgesError, throwIfAborted } from '../../core/errors.js';

/** A failure that may pass by itself: a lost connection, a busy server. */
export class TransientFailure extends Error {
  readonly retryAfterMs: number | undefined;

  constructor(message: string, details: { retryAfterMs?: number; cause?: unknown } = {}) {
    super(message, { cause: details.cause });
    this.retryAfterMs = details.retryAfterMs;
  }
}

export interface RetryPolicy {
  /** Tries in a row without any progress. */
  attempts: number;
  /** Wait before the second try; it doubles from try to try. */
  delayMs: number;
}

export const DEFAULT_RETRY_POLICY: RetryPolicy = { attempts: 5, delayMs: 500 };

/** A server that asks for more patience than this is not waited for. */
const LONGEST_WAIT_MS = 60_000;

export interface RetryOptions {
  policy: RetryPolicy;
  signal?: AbortSignal;
  /** Told before each wait. */
  onRetry: (message: string) => void;
  /** A number that grows with the work done; when it grew, the tries are counted afresh. */
  progress?: () => number;
}

/** Repeats `attempt` while it throws TransientFailure. Throws `DOWNLOAD_FAILED` when the tries are used up. */
export async function withRetries<T>(attempt: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { policy, signal, onRetry, progress = () => 0 } = options;
  let failures = 0;
  let before = progress();
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      throwIfAborted(signal);
      if (!(error instanceof TransientFailure)) throw error;
      failures = progress() > before ? 1 : failures + 1;
      before = progress();
      const waitMs = error.retryAfterMs ?? policy.delayMs * 2 ** (failures - 1);
      if (failures >= policy.attempts || waitMs > LONGEST_WAIT_MS) throw givenUp(error, failures);
      onRetry(`${error.message}; trying again (${failures} of ${policy.attempts - 1})`);
      // The wait ends early for one reason alone.
      await sleep(waitMs, undefined, { signal }).catch(() => throwIfAborted(signal));
    }
  }
}

function givenUp(error: TransientFailure, failures: number): CartridgesError {
  return new CartridgesError('DOWNLOAD_FAILED', `${error.message} (tried ${failures} times)`, {
    hint: 'check the connection and run the same command again; it continues where it stopped',
    cause: error,
  });
}
