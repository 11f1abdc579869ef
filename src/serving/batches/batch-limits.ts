import type { RetryPolicy } from '../../core/retry.js';

/** What one key may store and run, and how much of the server batches take. A key is what its scope names. */
export interface BatchLimits {
  /** Largest file that is uploaded. */
  maxFileBytes: number;
  /** All files of a key, with those that its unfinished batches may still write. */
  maxFiles: number;
  /** All files of a key, with what its batches have written. */
  maxKeyBytes: number;
  /** Requests of one batch. */
  maxRequests: number;
  /** One request of a batch, as a line of its file. */
  maxLineBytes: number;
  /** One answer of a batch, as a line of its file. */
  maxAnswerBytes: number;
  /** Batches of a key that are not finished; more are refused. */
  maxUnfinishedBatches: number;
  /** Finished batches of a key that are remembered; beyond, the oldest are forgotten. */
  maxFinishedBatches: number;
  /** Batches that run at the same time, of all keys; the others wait as `validating`. */
  runningBatches: number;
  /** Requests of all batches that are answered at the same time, beside those that clients wait for. Keys take turns. */
  concurrentRequests: number;
  /** Longest `completion_window`. */
  maxWindowHours: number;
  /** How long files and finished batches are kept. */
  retentionDays: number;
  /** What is done while the server says that it is busy: 429 or 503. */
  busyRetry: RetryPolicy;
  /** Requests of one synchronous batch. */
  maxSynchronousRequests: number;
  /** Requests of one synchronous batch that are answered at the same time. */
  concurrentSynchronousRequests: number;
}

export const DEFAULT_BATCH_LIMITS: BatchLimits = {
  maxFileBytes: 200 << 20,
  maxFiles: 1000,
  maxKeyBytes: 8 * 2 ** 30,
  maxRequests: 50_000,
  maxLineBytes: 2 << 20,
  maxAnswerBytes: 64 << 20,
  maxUnfinishedBatches: 32,
  maxFinishedBatches: 1000,
  runningBatches: 32,
  concurrentRequests: 8,
  maxWindowHours: 168,
  retentionDays: 30,
  busyRetry: { attempts: 8, delayMs: 500 },
  maxSynchronousRequests: 1024,
  concurrentSynchronousRequests: 16,
};
