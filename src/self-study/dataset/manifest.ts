import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CartridgesError, toCartridgesError } from '../../core/errors.js';

/** Largest `manifest.json` that is read. */
const MAXIMUM_MANIFEST_BYTES = 64 << 20;

export const MANIFEST_NAME = 'manifest.json';

const count = z.int().min(0);

/** What became of the conversations of a shard or a dataset. With filters off a kept one may also count as flawed. */
const countsSchema = z.object({
  attempted: count,
  kept: count,
  duplicate: count,
  empty: count,
  truncated: count,
  /** Datasets from before there was this filter do not say. */
  unsure: count.default(0),
  /** Datasets from before it was counted do not say. */
  repeated: count.default(0),
  failed: count,
  /** Tokens in the answers of the kept conversations. */
  answerTokens: count,
});
export type DatasetCounts = z.output<typeof countsSchema>;

const shardSchema = z.object({
  /** File name inside the folder; never a path. */
  name: z.string().regex(/^shard-\d{5,8}\.parquet$/),
  groups: z.int().min(1),
  conversations: count,
  bytes: count,
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  counts: countsSchema,
  /** The first conversations that failed for good, and why. */
  failures: z.array(z.object({ conversation: count, code: z.string(), message: z.string() })),
});
export type ShardEntry = z.output<typeof shardSchema>;

/** What a dataset was made with; a folder belongs to one such description. */
const recipeSchema = z.object({
  settings: z.record(z.string(), z.unknown()),
  /** The model, tokenizer and framing that answered, as the caller describes them. */
  teacher: z.record(z.string(), z.unknown()),
  /** What computed the answers, as the caller describes it: another one rounds otherwise. */
  computation: z.record(z.string(), z.unknown()).default({}),
  prompts: z.object({ hash: z.string() }),
  chunks: z.object({ count, hash: z.string() }),
});
export type DatasetRecipe = z.output<typeof recipeSchema>;

const manifestSchema = z.object({
  format: z.literal('cartridges-dataset'),
  version: z.literal(1),
  /** Whether all conversations were attempted. */
  complete: z.boolean(),
  recipe: recipeSchema,
  counts: countsSchema,
  shards: z.array(shardSchema).max(1_000_000),
});
export type DatasetManifest = z.output<typeof manifestSchema>;

/** A dataset with its counts summed; keys in one order, so that equal datasets have equal manifests. */
export function createManifest({
  recipe,
  shards,
  complete,
}: Pick<DatasetManifest, 'recipe' | 'shards' | 'complete'>): DatasetManifest {
  const counts = sumCounts(shards.map((shard) => shard.counts));
  return manifestSchema.parse({ format: 'cartridges-dataset', version: 1, complete, recipe, counts, shards });
}

export function sumCounts(parts: readonly DatasetCounts[]): DatasetCounts {
  const sum = { attempted: 0, kept: 0, duplicate: 0, empty: 0, truncated: 0, unsure: 0, repeated: 0, failed: 0, answerTokens: 0 };
  for (const part of parts) {
    for (const key of Object.keys(sum) as (keyof DatasetCounts)[]) sum[key] += part[key];
  }
  return sum;
}

/** The manifest of a dataset folder, or undefined where there is none. Throws `INVALID_DATASET` when it is damaged. */
export async function readManifest(folder: string): Promise<DatasetManifest | undefined> {
  const path = join(folder, MANIFEST_NAME);
  const json = await readBounded(path);
  if (json === undefined) return undefined;
  try {
    return manifestSchema.parse(JSON.parse(json));
  } catch (error) {
    const issue = error instanceof z.ZodError ? error.issues[0] : undefined;
    const what = issue ? `${issue.path.join('.')}: ${issue.message}` : (error as Error).message;
    throw new CartridgesError('INVALID_DATASET', `${path} is not a dataset manifest: ${what}`, {
      hint: 'synthesize into a new folder',
      cause: error,
    });
  }
}

async function readBounded(path: string): Promise<string | undefined> {
  try {
    const handle = await open(path);
    try {
      if ((await handle.stat()).size <= MAXIMUM_MANIFEST_BYTES) return await handle.readFile('utf8');
    } finally {
      await handle.close();
    }
  } catch (thrown) {
    const error = toCartridgesError(thrown);
    if (error.code === 'FILE_NOT_FOUND') return undefined;
    throw error;
  }
  throw new CartridgesError('INVALID_DATASET', `${path} is larger than ${MAXIMUM_MANIFEST_BYTES} bytes`);
}
