import { createHash } from 'node:crypto';
import { replaceFile } from '../../core/files.js';
import type { Cartridge } from '../cartridge.js';
import { buildStateBlob, type StateBlobSettings } from '../state-blob.js';

/**
 * The file that llama.cpp keeps a sequence in, and that `llama-server` restores a slot from: a head, the ids of the tokens that the
 * rows stand for, then the sequence's state without the magic number and the sequence id of a blob in memory.
 */

const MAGIC = 0x67677371;
const VERSION = 3;
/** What a blob begins with and a file does not. */
const BLOB_HEAD_BYTES = 8;
/** So many ids tell cartridges apart; the rest repeat the last of them, which keeps requests short. */
const TELLING_TOKENS = 8;

/** How the cache of the server is laid out; its sequences must share one stream, as they do by default. */
export type SlotCache = Omit<StateBlobSettings, 'streams'>;

/**
 * Writes a cartridge as a slot file, atomically, and returns the ids that stand for its rows. They mean nothing: the server
 * compares a prompt with them to find out how much of it is in the slot. They come from the rows, so that a server that remembers
 * prompts cannot take one cartridge for another. Throws `INVALID_CARTRIDGE` for numbers that the cache's types cannot hold.
 */
export async function writeSlotFile(
  path: string,
  cartridge: Cartridge,
  cache: SlotCache,
  vocabularySize: number,
): Promise<Int32Array<ArrayBuffer>> {
  const state = buildStateBlob(cartridge, { ...cache, streams: 1 }).subarray(BLOB_HEAD_BYTES);
  const tokens = placeholderTokens(state, cartridge.tokenCount, vocabularySize);
  const head = Uint32Array.of(MAGIC, VERSION, tokens.length);
  await replaceFile(path, async (file) => {
    for (const { buffer } of [head, tokens]) await file.writeFile(new Uint8Array(buffer));
    await file.writeFile(state);
  });
  return tokens;
}

function placeholderTokens(state: Uint8Array, count: number, vocabularySize: number): Int32Array<ArrayBuffer> {
  const digest = createHash('sha256').update(state).digest();
  const telling = Array.from({ length: TELLING_TOKENS }, (_, index) => digest.readUInt32LE(4 * index) % vocabularySize);
  return Int32Array.from({ length: count }, (_, row) => telling[Math.min(row, TELLING_TOKENS - 1)]!);
}
