import { z } from '@hono/zod-openapi';
import { atMost } from '../openai/schema-parts.js';
import { BATCH_ENDPOINTS, BATCH_STATUSES, type BatchRecord, batchErrorSchema } from './batch-record.js';
import { FILE_PURPOSES, type StoredFile, UPLOAD_PURPOSES } from './file-store.js';

/** What the API of files and batches takes and gives. */

const unixSeconds = z.int().openapi({ description: 'Unix seconds' });
const MAX_METADATA = 16;
const lifetimeSeconds = { min: 3600, max: 30 * 86_400 };

export const idParams = z.strictObject({ id: z.string() });

/** The form of an upload, with the names that its parts have. */
export const uploadSchema = z
  .strictObject({
    file: z.string().openapi({ format: 'binary', description: 'For a batch: JSON Lines in UTF-8, one request a line' }),
    purpose: z.enum(UPLOAD_PURPOSES).openapi({ description: 'Batches read files of the purpose batch' }),
    'expires_after[anchor]': z.literal('created_at').optional(),
    'expires_after[seconds]': z.coerce.number().int().min(lifetimeSeconds.min).max(lifetimeSeconds.max).optional(),
  })
  .refine((form) => (form['expires_after[anchor]'] === undefined) === (form['expires_after[seconds]'] === undefined), {
    error: 'needs an anchor and seconds',
    path: ['expires_after'],
  })
  .openapi('FileUpload');

/** Which part of a list is asked for. */
function pageQuery(limit: { most: number; usual: number }) {
  return z.strictObject({
    after: z.string().optional().openapi({ description: 'The id that the page begins behind' }),
    limit: z.coerce.number().int().min(1).max(limit.most).default(limit.usual),
  });
}

export const fileListQuery = pageQuery({ most: 10_000, usual: 10_000 }).extend({
  order: z.enum(['asc', 'desc']).default('desc').openapi({ description: 'By the time of creation' }),
  purpose: z.enum(FILE_PURPOSES).optional(),
});

export const batchListQuery = pageQuery({ most: 100, usual: 20 });

export const fileSchema = z
  .strictObject({
    id: z.string(),
    object: z.literal('file'),
    bytes: z.int(),
    created_at: unixSeconds,
    expires_at: unixSeconds,
    filename: z.string(),
    purpose: z.enum(FILE_PURPOSES),
    status: z.literal('processed'),
  })
  .openapi('File');

export const fileDeletedSchema = z
  .strictObject({ id: z.string(), object: z.literal('file'), deleted: z.literal(true) })
  .openapi('FileDeleted');

export const batchOrderSchema = z
  .strictObject({
    input_file_id: z.string(),
    endpoint: z.enum(BATCH_ENDPOINTS).openapi({ description: 'The url of every request of the file' }),
    completion_window: z
      .string()
      .regex(/^[1-9]\d{0,5}[smhd]$/, 'expected a number of seconds, minutes, hours or days, such as 24h')
      .openapi({ description: 'When the batch expires: a number and s, m, h or d', example: '24h' }),
    metadata: atMost(MAX_METADATA, z.record(z.string().max(64), z.string().max(512)).nullish()),
    output_expires_after: z
      .strictObject({ anchor: z.literal('created_at'), seconds: z.int().min(lifetimeSeconds.min).max(lifetimeSeconds.max) })
      .optional(),
  })
  .openapi('BatchRequest');

export const batchSchema = z
  .strictObject({
    id: z.string(),
    object: z.literal('batch'),
    endpoint: z.enum(BATCH_ENDPOINTS),
    errors: z.strictObject({ object: z.literal('list'), data: z.array(batchErrorSchema) }).nullable(),
    input_file_id: z.string(),
    completion_window: z.string(),
    status: z.enum(BATCH_STATUSES),
    output_file_id: z.string().nullable().openapi({ description: 'The answers, in the order of the requests' }),
    error_file_id: z
      .string()
      .nullable()
      .openapi({ description: 'The requests that were refused, failed or were not answered any more, in their order' }),
    created_at: unixSeconds,
    in_progress_at: unixSeconds.nullable(),
    expires_at: unixSeconds,
    finalizing_at: unixSeconds.nullable(),
    completed_at: unixSeconds.nullable(),
    failed_at: unixSeconds.nullable(),
    expired_at: unixSeconds.nullable(),
    cancelling_at: unixSeconds.nullable(),
    cancelled_at: unixSeconds.nullable(),
    request_counts: z.strictObject({ total: z.int(), completed: z.int(), failed: z.int() }),
    metadata: z.record(z.string(), z.string()).nullable(),
  })
  .openapi('Batch');

/** One page of a list. */
function pageOf<T extends z.ZodType>(item: T) {
  return z.strictObject({
    object: z.literal('list'),
    data: z.array(item),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  });
}

export const fileListSchema = pageOf(fileSchema).openapi('FileList');
export const batchListSchema = pageOf(batchSchema).openapi('BatchList');

export function toFile({ id, bytes, createdAtMs, expiresAtMs, filename, purpose }: StoredFile): z.output<typeof fileSchema> {
  const times = { created_at: toSeconds(createdAtMs), expires_at: toSeconds(expiresAtMs) };
  return { id, object: 'file', bytes, ...times, filename, purpose, status: 'processed' };
}

export function toBatch(batch: BatchRecord): z.output<typeof batchSchema> {
  const { id, endpoint, errors, inputFileId, completionWindow, status, finishedAtMs, counts, total, metadata } = batch;
  const isFinished = finishedAtMs !== undefined;
  return {
    id,
    object: 'batch',
    endpoint,
    errors: errors ? { object: 'list', data: errors } : null,
    input_file_id: inputFileId,
    completion_window: completionWindow,
    status,
    output_file_id: (isFinished && batch.outputFileId) || null,
    error_file_id: (isFinished && batch.errorFileId) || null,
    ...momentsOf(batch),
    request_counts: { total: total ?? 0, ...counts },
    metadata,
  };
}

function momentsOf({ status, finishedAtMs, ...batch }: BatchRecord) {
  const endedAs = (outcome: BatchRecord['status']) => (status === outcome ? secondsOrNull(finishedAtMs) : null);
  return {
    created_at: toSeconds(batch.createdAtMs),
    in_progress_at: secondsOrNull(batch.inProgressAtMs),
    expires_at: toSeconds(batch.expiresAtMs),
    finalizing_at: secondsOrNull(batch.finalizingAtMs),
    completed_at: endedAs('completed'),
    failed_at: endedAs('failed'),
    expired_at: endedAs('expired'),
    cancelling_at: secondsOrNull(batch.cancellingAtMs),
    cancelled_at: endedAs('cancelled'),
  };
}

function secondsOrNull(milliseconds: number | undefined): number | null {
  return milliseconds === undefined ? null : toSeconds(milliseconds);
}

function toSeconds(milliseconds: number): number {
  return Math.floor(milliseconds / 1000);
}
