import { CartridgesError } from '../../core/errors.js';
import { type RetryOptions, type RetryPolicy, withRetries as repeat, type TransientFailure } from '../../core/retry.js';

export { type RetryOptions, type RetryPolicy, TransientFailure } from '../../core/retry.js';

export const DEFAULT_RETRY_POLICY: RetryPolicy = { attempts: 5, delayMs: 500 };

/** Repeats a part of a download while it throws TransientFailure. Throws `DOWNLOAD_FAILED` when the tries are used up. */
export function withRetries<T>(attempt: () => Promise<T>, options: RetryOptions): Promise<T> {
  return repeat(attempt, options, givenUp);
}

function givenUp(error: TransientFailure, failures: number): CartridgesError {
  return new CartridgesError('DOWNLOAD_FAILED', `${error.message} (tried ${failures} times)`, {
    hint: 'check the connection and run the same command again; it continues where it stopped',
    cause: error,
  });
}
