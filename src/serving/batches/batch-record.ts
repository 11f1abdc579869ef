import { z } from 'zod';

/** Paths whose requests a batch may hold. */
export const BATCH_ENDPOINTS = [
  '/v1/chat/completions',
  '/v1/completions',
  '/v1/cartridge/chat/completions',
  '/v1/cartridge/completions',
  '/custom/cartridge/chat/completions',
  '/custom/cartridge/completions',
] as const;

/** OpenAI's statuses of a batch. */
export const BATCH_STATUSES = [
  'validating',
  'in_progress',
  'finalizing',
  'cancelling',
  'completed',
  'failed',
  'cancelled',
  'expired',
] as const;

const OUTCOMES = ['completed', 'failed', 'cancelled', 'expired'] as const;

/** What is wrong with a batch as a whole, or with a line of its file. */
export const batchErrorSchema = z.strictObject({
  code: z.string(),
  message: z.string(),
  /** Counted from 1. */
  line: z.int().nullable(),
  param: z.string().nullable(),
});

const moment = z.int().optional();

/** A batch as it is kept on disk. */
export const batchRecordSchema = z.strictObject({
  id: z.string().regex(/^batch_[0-9a-f]{32}$/),
  scope: z.string(),
  inputFileId: z.string(),
  endpoint: z.enum(BATCH_ENDPOINTS),
  completionWindow: z.string(),
  metadata: z.record(z.string(), z.string()).nullable(),
  /** How long the files that it writes are kept, when the request says so. */
  outputSeconds: z.int().optional(),
  status: z.enum(BATCH_STATUSES),
  /** Its requests; known when its file was found valid. */
  total: z.int().optional(),
  /** Requests that were answered, and those that were refused or failed. */
  counts: z.strictObject({ completed: z.int(), failed: z.int() }),
  errors: z.array(batchErrorSchema).optional(),
  /** What it will end as; from then on only its files are written. */
  outcome: z.enum(OUTCOMES).optional(),
  outputFileId: z.string().optional(),
  errorFileId: z.string().optional(),
  createdAtMs: z.int(),
  expiresAtMs: z.int(),
  inProgressAtMs: moment,
  cancellingAtMs: moment,
  finalizingAtMs: moment,
  finishedAtMs: moment,
});

export type BatchRecord = Readonly<z.output<typeof batchRecordSchema>>;
export type BatchEndpoint = BatchRecord['endpoint'];
export type BatchError = z.output<typeof batchErrorSchema>;
export type BatchOutcome = (typeof OUTCOMES)[number];

export function isFinished({ finishedAtMs }: BatchRecord): boolean {
  return finishedAtMs !== undefined;
}
