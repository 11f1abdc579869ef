import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { randomCartridge } from '../../../test/support/cartridges.js';
import { buildStateBlob, parseStateBlob } from '../state-blob.js';
import { type SlotCache, writeSlotFile } from './slot-file.js';

const folder = mkdtempSync(join(tmpdir(), 'slot-'));
afterAll(() => rmSync(folder, { recursive: true }));

const path = join(folder, 'notes.bin');
const CACHE: SlotCache = { keyType: 'f16', valueType: 'f16', valuesTransposed: false };
const VOCABULARY = 512;

describe('the file', () => {
  test.each<SlotCache>([CACHE, { keyType: 'f32', valueType: 'bf16', valuesTransposed: true }])(
    'has head, token ids and the state of a sequence ($keyType, $valueType)',
    async (cache) => {
      const cartridge = randomCartridge(9);
      const tokens = await writeSlotFile(path, cartridge, cache, VOCABULARY);
      const bytes = readFileSync(path);
      expect([0, 4, 8].map((at) => bytes.readUInt32LE(at))).toEqual([0x67677371, 3, 9]);
      expect(Array.from(tokens, (_, row) => bytes.readInt32LE(12 + 4 * row))).toEqual([...tokens]);
      const blob = buildStateBlob(cartridge, { ...cache, streams: 1 });
      expect(bytes.subarray(12 + 4 * 9)).toEqual(blob.subarray(8));
      const restored = parseStateBlob(Buffer.concat([blob.subarray(0, 8), bytes.subarray(48)]), { layers: 2, rowValues: 8 });
      expect(restored).toMatchObject({ ...cache, tokenCount: 9 });
    },
  );

  test('is not written for numbers that the cache cannot hold', async () => {
    const cartridge = randomCartridge(3);
    cartridge.keys[0]![0] = 1e6;
    const refused = writeSlotFile(join(folder, 'none.bin'), cartridge, CACHE, VOCABULARY);
    await expect(refused).rejects.toMatchObject({ code: 'INVALID_CARTRIDGE' });
  });
});

describe('the ids that stand for rows', () => {
  const tokensOf = async (rows: number, seed: number) => [
    ...(await writeSlotFile(path, randomCartridge(rows, 1, seed), CACHE, VOCABULARY)),
  ];

  test('are in the vocabulary, the same for the same rows', async () => {
    const tokens = await tokensOf(20, 1);
    expect(tokens).toHaveLength(20);
    expect(tokens.every((token) => token >= 0 && token < VOCABULARY)).toBe(true);
    expect(await tokensOf(20, 1)).toEqual(tokens);
    expect(await tokensOf(1, 1)).toHaveLength(1);
  });

  test('tell cartridges apart by how they begin', async () => {
    const beginnings = await Promise.all(
      Array.from({ length: 50 }, async (_, seed) => (await tokensOf(20, seed)).slice(0, 8).join()),
    );
    expect(new Set(beginnings).size).toBe(50);
  });
});
