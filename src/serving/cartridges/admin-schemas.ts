import { z } from '@hono/zod-openapi';
import type { Receipt } from '../../cartridge/cartridge.js';
import { CARTRIDGE_ID_RULE, isCartridgeId } from './cartridge-id.js';
import type { CartridgeEntry } from './cartridge-library.js';
import type { DownloadStatus } from './downloads.js';
import type { CartridgeDetails } from './open-cartridge-library.js';

/** What the admin API takes and gives. */

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const remoteSource = z.enum(['huggingface', 'wandb']);

const idSchema = z
  .string()
  .refine(isCartridgeId, { error: `not the name of a cartridge: ${CARTRIDGE_ID_RULE}` })
  .openapi({ description: `${CARTRIDGE_ID_RULE}; in a path the slash is written %2F`, example: 'handbook' });

export const idParams = z.strictObject({ id: idSchema });
export const aliasParams = z.strictObject({ id: idSchema, alias: idSchema });

export const uploadQuery = z.strictObject({
  id: idSchema,
  sha256: sha256.optional().openapi({ description: 'What the bytes must hash to' }),
  replace: z.enum(['true', 'false']).default('false').openapi({ description: 'Give an id that is taken a new content' }),
});

export const uploadBody = z.string().openapi({ format: 'binary', description: 'The .safetensors file of the cartridge' });

export const downloadBody = z
  .strictObject({ id: idSchema, source: remoteSource, force_redownload: z.boolean().default(false) })
  .openapi('CartridgeDownloadRequest');

export const cartridgeSchema = z
  .strictObject({
    object: z.literal('cartridge'),
    id: z.string(),
    aliases: z.array(z.string()),
    token_count: z.int().openapi({ description: 'Its rows' }),
    bytes: z.int(),
    sha256,
    created_at: z.int().openapi({ description: 'Unix seconds' }),
  })
  .openapi('Cartridge');

export const cartridgeListSchema = z
  .strictObject({ object: z.literal('list'), data: z.array(cartridgeSchema) })
  .openapi('CartridgeList');

export const cartridgeDetailsSchema = cartridgeSchema
  .extend({
    source: z.enum(['start', 'local', 'upload', 'huggingface', 'wandb']),
    owner: z.string().openapi({ description: 'The scope of the key that brought it' }),
    frozen_count: z.int(),
    stored_as: z.enum(['f32', 'f16', 'bf16']),
    content_hash: sha256.openapi({ description: 'SHA-256 of the rows' }),
    model: z.record(z.string(), z.union([z.string(), z.number()])).openapi({ description: 'Fingerprint of its model' }),
    framing: z.strictObject({ name: z.string(), hash: z.string() }),
    receipt: z.record(z.string(), z.unknown()).openapi({ description: 'How it was made, without the long fields' }),
    resident: z.boolean().openapi({ description: "Its rows are in the engine's cache" }),
    holders: z.int().openapi({ description: 'Requests that use it now' }),
  })
  .openapi('CartridgeDetails');

export const deletedSchema = z
  .strictObject({ object: z.enum(['cartridge', 'cartridge.alias']), id: z.string(), deleted: z.literal(true) })
  .openapi('CartridgeDeleted');

export const downloadSchema = z
  .strictObject({
    object: z.literal('cartridge.download'),
    id: z.string(),
    source: remoteSource,
    state: z.enum(['running', 'done', 'failed', 'cancelled']),
    received_bytes: z.int(),
    total_bytes: z.int().nullable(),
    started_at: z.int(),
    finished_at: z.int().nullable(),
    message: z.string().nullable().openapi({ description: 'Why it failed' }),
  })
  .openapi('CartridgeDownload');

export const downloadListSchema = z
  .strictObject({ object: z.literal('list'), data: z.array(downloadSchema) })
  .openapi('CartridgeDownloadList');

/** Longest field of a receipt that is shown: one can hold the hashes of every chunk of a corpus. */
const MAX_RECEIPT_FIELD = 2_000;

export function toCartridge(entry: CartridgeEntry): z.output<typeof cartridgeSchema> {
  const { id, aliases, tokenCount, bytes, sha256, createdAt } = entry;
  return { object: 'cartridge', id, aliases: [...aliases], token_count: tokenCount, bytes, sha256, created_at: createdAt };
}

export function toDetails(details: CartridgeDetails): z.output<typeof cartridgeDetailsSchema> {
  const { header, receipt, origin, owner, isResident, holders } = details;
  return {
    ...toCartridge(details),
    source: origin,
    owner,
    frozen_count: header.frozenCount,
    stored_as: header.storedAs,
    content_hash: header.contentHash,
    model: { ...header.model },
    framing: header.framing,
    receipt: shortFields(receipt),
    resident: isResident,
    holders,
  };
}

export function toDownload(status: DownloadStatus): z.output<typeof downloadSchema> {
  const { id, source, state, receivedBytes, totalBytes, startedAt, finishedAt, message } = status;
  return {
    object: 'cartridge.download',
    id,
    source,
    state,
    received_bytes: receivedBytes,
    total_bytes: totalBytes ?? null,
    started_at: startedAt,
    finished_at: finishedAt ?? null,
    message: message ?? null,
  };
}

function shortFields(receipt: Receipt): Record<string, unknown> {
  return Object.fromEntries(Object.entries(receipt).filter(([, value]) => JSON.stringify(value).length <= MAX_RECEIPT_FIELD));
}
