import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { CartridgesError, rethrow, throwIfAborted } from '../../core/errors.js';
import { sha256, sha256Json } from '../../core/hashing.js';
import type { Conversation } from '../conversation.js';
import { type DatasetManifest, readManifest, type ShardEntry } from './manifest.js';
import { decodeNative, isNativeFormat } from './native-format.js';
import { openParquet, readParquetBytes } from './parquet-file.js';
import { decodeUpstream, isUpstreamFormat } from './upstream-format.js';

/** Self-study conversations on disk: a folder that a synthesis wrote, or one Parquet file of ours or of the Python project. */
export interface Dataset {
  path: string;
  conversationCount: number;
  /** SHA-256 of the content; the same for the same bytes wherever they are. */
  contentHash: string;
  /** What a synthesis recorded; a single file has none. `complete` tells whether it was finished. */
  manifest?: DatasetManifest;
  /** Reads the conversations in order, holding one row group at a time. */
  conversations(signal?: AbortSignal): AsyncIterable<Conversation>;
}

/**
 * Opens a dataset and checks the hashes of all its files. Throws `FILE_NOT_FOUND`, or `INVALID_DATASET` when it is damaged;
 * reading throws the latter too.
 */
export async function openDataset(path: string, signal?: AbortSignal): Promise<Dataset> {
  return (await isFolder(path)) ? openFolder(path, signal) : openFile(path, signal);
}

/** All conversations of a dataset in memory. */
export async function loadConversations(dataset: Dataset, signal?: AbortSignal): Promise<Conversation[]> {
  const conversations: Conversation[] = [];
  for await (const conversation of dataset.conversations(signal)) conversations.push(conversation);
  return conversations;
}

/** The conversations of one shard of a folder. Throws `INVALID_DATASET` unless the file is what the manifest says. */
export async function* readShard(folder: string, shard: ShardEntry, signal?: AbortSignal): AsyncIterable<Conversation> {
  yield* openRows(await readShardBytes(folder, shard, signal), join(folder, shard.name)).read(signal);
}

async function openFolder(path: string, signal?: AbortSignal): Promise<Dataset> {
  const manifest = await readManifest(path);
  if (!manifest) {
    throw new CartridgesError('FILE_NOT_FOUND', `${path} has no manifest.json`, { hint: 'give a folder that a synthesis wrote' });
  }
  for (const shard of manifest.shards) await readShardBytes(path, shard, signal);
  return {
    path,
    conversationCount: manifest.shards.reduce((sum, shard) => sum + shard.conversations, 0),
    contentHash: sha256Json(manifest.shards.map((shard) => shard.sha256)),
    manifest,
    async *conversations(signal) {
      for (const shard of manifest.shards) yield* readShard(path, shard, signal);
    },
  };
}

async function openFile(path: string, signal?: AbortSignal): Promise<Dataset> {
  const bytes = await readParquetBytes(path, signal);
  const rows = openRows(bytes, path);
  return { path, conversationCount: rows.count, contentHash: sha256(bytes), conversations: rows.read };
}

async function readShardBytes(folder: string, shard: ShardEntry, signal?: AbortSignal): Promise<Uint8Array> {
  throwIfAborted(signal);
  const bytes = await readParquetBytes(join(folder, shard.name), signal);
  if (bytes.length === shard.bytes && sha256(bytes) === shard.sha256) return bytes;
  throw new CartridgesError('INVALID_DATASET', `${join(folder, shard.name)} differs from what the manifest says`, {
    hint: 'the file was changed or damaged; synthesize the dataset again',
  });
}

function openRows(bytes: Uint8Array, path: string): { count: number; read: Dataset['conversations'] } {
  const file = openParquet(bytes, path);
  const decode = decoderFor(file.columns, path);
  return {
    count: file.rowCount,
    async *read(signal) {
      let row = 0;
      for await (const rows of file.rowGroups()) {
        throwIfAborted(signal);
        for (const fields of rows) yield decode(fields, row++);
      }
    },
  };
}

function decoderFor(columns: readonly string[], path: string): (row: Record<string, unknown>, index: number) => Conversation {
  if (isNativeFormat(columns)) return (row, index) => decodeNative(row, `${path}, row ${index}`);
  if (isUpstreamFormat(columns)) {
    return (row, index) => decodeUpstream(row, `${basename(path)}#${index}`, `${path}, row ${index}`);
  }
  throw new CartridgesError(
    'INVALID_DATASET',
    `${path} has the columns ${columns.join(', ')}, which is no dataset of conversations`,
  );
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(rethrow)).isDirectory();
}
