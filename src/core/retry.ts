import { setTimeout as sleep } from 'node:timers/promises';
import { throwIfAborted } from './errors.js';

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

/**
 * Repeats `attempt` while it throws TransientFailure, and throws `CANCELLED` when the signal is aborted.
 *
 * @param giveUp  What to throw when the tries are used up.
 */
export async function withRetries<T>(
  attempt: () => Promise<T>,
  options: RetryOptions,
  giveUp: (failure: TransientFailure, tries: number) => Error,
): Promise<T> {
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
      if (failures >= policy.attempts || waitMs > LONGEST_WAIT_MS) throw giveUp(error, failures);
      onRetry(`${error.message}; trying again (${failures} of ${policy.attempts - 1})`);
      // The wait ends early for one reason alone.
      await sleep(waitMs, undefined, { signal }).catch(() => throwIfAborted(signal));
    }
  }
}

/** Milliseconds that a header `Retry-After` asks to wait: it holds seconds or a date. */
export function parseRetryAfter(header: string | null, now = Date.now()): number | undefined {
  if (header === null || header.trim() === '') return undefined;
  const seconds = Number(header);
  const milliseconds = Number.isNaN(seconds) ? Date.parse(header) - now : seconds * 1000;
  return Number.isFinite(milliseconds) ? Math.max(0, milliseconds) : undefined;
}

/** What `fetch` or the reading of its body threw, when the connection is to blame; anything else, such as an abort, as it is. */
export function toTransient(error: unknown, message: string): unknown {
  if (!(error instanceof TypeError)) return error;
  // The reason of a failed fetch is in its cause.
  const cause = error.cause instanceof Error ? error.cause.message || (error.cause as NodeJS.ErrnoException).code : error.message;
  return new TransientFailure(`${message} (${cause})`, { cause: error });
}
