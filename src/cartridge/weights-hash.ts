import { createHash } from 'node:crypto';
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { CartridgesError, rethrow, throwIfAborted } from '../core/errors.js';
import { writeJsonAtomic } from '../core/files.js';
import type { RunOptions } from '../core/progress.js';
import type { GgufFile, GgufTensor } from '../models/gguf.js';

const CACHE_FILE = 'weights-hashes.json';
/** Models that the cache remembers; the oldest entries are dropped. */
const MAX_CACHE_ENTRIES = 256;
const MAX_CACHE_BYTES = 1 << 20;
const PIECE_BYTES = 4 << 20;

const cacheSchema = z.record(
  z.string(),
  z.strictObject({ size: z.number(), modifiedMs: z.number(), hash: z.string().regex(/^[0-9a-f]{64}$/) }),
);
type Cache = z.infer<typeof cacheSchema>;

/**
 * SHA-256 over name, type, shape and data of every tensor, in the order of the names: what makes two files the same weights.
 * The file is read once; after that the result comes from `cacheFolder`, as long as its size and time stay. A cache that is
 * damaged or cannot be written costs time and a warning, never the result.
 *
 * Throws `INVALID_MODEL` when the file has changed since `gguf` was read, and `CANCELLED`.
 */
export async function hashWeights(gguf: GgufFile, cacheFolder: string, options: RunOptions = {}): Promise<string> {
  const { size, mtimeMs: modifiedMs } = await stat(gguf.path).catch(rethrow);
  if (size !== gguf.fileSize) throw changed(gguf.path);
  const cachePath = join(cacheFolder, CACHE_FILE);
  const modelPath = resolve(gguf.path);
  const cache = await readCache(cachePath);
  const cached = Object.hasOwn(cache, modelPath) ? cache[modelPath] : undefined;
  if (cached?.size === size && cached.modifiedMs === modifiedMs) return cached.hash;
  const hash = await hashTensors(gguf, options);
  const others = Object.entries(cache).filter(([path]) => path !== modelPath);
  const entries = [...others, [modelPath, { size, modifiedMs, hash }]].slice(-MAX_CACHE_ENTRIES);
  await writeJsonAtomic(cachePath, Object.fromEntries(entries)).catch((error: Error) => {
    options.onProgress?.({ kind: 'warning', stage: 'load', message: `cannot remember the model's hash: ${error.message}` });
  });
  return hash;
}

/** What is remembered; nothing when there is no cache yet, or when it is damaged: it will be written anew. */
async function readCache(path: string): Promise<Cache> {
  try {
    const { size } = await stat(path);
    if (size > MAX_CACHE_BYTES) return {};
    return cacheSchema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch {
    return {};
  }
}

async function hashTensors(gguf: GgufFile, options: RunOptions): Promise<string> {
  const tensors = [...gguf.tensors.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const total = tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, total));
  const hash = createHash('sha256');
  const file = await open(gguf.path, 'r').catch(rethrow);
  let done = 0;
  try {
    for (const tensor of tensors) {
      // Ended by a line break, so that no header can be mistaken for data.
      hash.update(`${JSON.stringify([tensor.name, tensor.typeName, tensor.shape])}\n`);
      for await (const piece of readPieces(file, gguf.path, tensor, buffer)) {
        throwIfAborted(options.signal);
        hash.update(piece);
        done += piece.length;
        options.onProgress?.({ kind: 'progress', stage: 'load', done, total, message: 'hashing the weights' });
      }
    }
  } finally {
    await file.close();
  }
  return hash.digest('hex');
}

/** The data of a tensor in pieces, each a view of `buffer` that the next one overwrites. */
async function* readPieces(
  file: FileHandle,
  path: string,
  { offset, byteLength }: GgufTensor,
  buffer: Uint8Array,
): AsyncGenerator<Uint8Array> {
  for (let done = 0; done < byteLength; ) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, byteLength - done), offset + done);
    if (bytesRead === 0) throw changed(path);
    done += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

function changed(path: string): CartridgesError {
  return new CartridgesError('INVALID_MODEL', `${path} has changed since it was opened`, { hint: 'run the command again' });
}
