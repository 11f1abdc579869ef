import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CartridgesError, rethrow } from '../../core/errors.js';
import { writeFileAtomic, writeJsonAtomic } from '../../core/files.js';
import { sha256 } from '../../core/hashing.js';
import { isObject } from '../../core/json.js';
import type { Conversation } from '../conversation.js';
import {
  createManifest,
  type DatasetManifest,
  type DatasetRecipe,
  MANIFEST_NAME,
  readManifest,
  type ShardEntry,
} from './manifest.js';
import { encodeNative } from './native-format.js';

/** What a shard is, apart from its file. */
export type ShardSummary = Pick<ShardEntry, 'groups' | 'counts' | 'failures'>;

/**
 * A dataset folder that grows by whole shards. The manifest is written after each of them, and both files atomically: what
 * the manifest names is always complete.
 */
export class DatasetWriter {
  readonly folder: string;
  manifest: DatasetManifest;

  private constructor(folder: string, manifest: DatasetManifest) {
    this.folder = folder;
    this.manifest = manifest;
  }

  /**
   * Opens a new folder, or one with the same recipe to go on with. Throws `SETTINGS_CHANGED` for another recipe. A complete dataset is
   * taken whatever computed it: nothing is added that would be rounded otherwise.
   */
  static async open(folder: string, recipe: DatasetRecipe): Promise<DatasetWriter> {
    await mkdir(folder, { recursive: true }).catch(rethrow);
    const manifest = await readManifest(folder);
    // JSON turns undefined and dates into what a manifest on disk can hold.
    const recorded = JSON.parse(JSON.stringify(recipe)) as DatasetRecipe;
    if (manifest) checkRecipe(folder, manifest, recorded);
    return new DatasetWriter(folder, manifest ?? createManifest({ recipe: recorded, shards: [], complete: false }));
  }

  async appendShard(conversations: readonly Conversation[], summary: ShardSummary): Promise<void> {
    const name = `shard-${String(this.manifest.shards.length).padStart(5, '0')}.parquet`;
    const bytes = encodeNative(conversations);
    await writeFileAtomic(join(this.folder, name), bytes);
    const entry: ShardEntry = {
      name,
      conversations: conversations.length,
      bytes: bytes.length,
      sha256: sha256(bytes),
      ...summary,
    };
    await this.#save({ shards: [...this.manifest.shards, entry] });
  }

  async finish(): Promise<void> {
    if (!this.manifest.complete) await this.#save({ complete: true });
  }

  async #save(change: Partial<DatasetManifest>): Promise<void> {
    const manifest = createManifest({ ...this.manifest, ...change });
    await writeJsonAtomic(join(this.folder, MANIFEST_NAME), manifest);
    this.manifest = manifest;
  }
}

function checkRecipe(folder: string, { recipe, complete }: DatasetManifest, now: DatasetRecipe): void {
  const differences = findDifferences(recipe, complete ? { ...now, computation: recipe.computation } : now, '');
  if (differences.length === 0) return;
  throw new CartridgesError('SETTINGS_CHANGED', `${folder} was made with other settings: ${differences.join('; ')}`, {
    hint: 'use the same settings to resume, or another folder for a new dataset',
  });
}

/** Names each leaf in which two JSON values differ, with both values. */
function findDifferences(there: unknown, now: unknown, path: string): string[] {
  if (isObject(there) && isObject(now)) {
    const keys = [...new Set([...Object.keys(there), ...Object.keys(now)])].sort();
    return keys.flatMap((key) => findDifferences(there[key], now[key], path === '' ? key : `${path}.${key}`));
  }
  const [old, current] = [JSON.stringify(there), JSON.stringify(now)];
  return old === current ? [] : [`${path} is ${current ?? 'not set'} and was ${old ?? 'not set'}`];
}
