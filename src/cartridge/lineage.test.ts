import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { randomCartridge } from '../../test/support/cartridges.js';
import type { Cartridge } from './cartridge.js';
import { readCartridge, writeCartridge } from './cartridge-file.js';
import { composeCartridges } from './composition.js';
import { describeParent } from './lineage.js';

const folder = mkdtempSync(join(tmpdir(), 'lineage-'));
afterAll(() => rmSync(folder, { recursive: true }));

const STAMP = { createdBy: 'a test', createdAt: '2025-01-01T00:00:00.000Z' };

/** A cartridge that was trained from this one, as its file gives it back. */
async function nextGeneration(parent: Cartridge): Promise<{ cartridge: Cartridge; sizeBytes: number }> {
  const path = join(folder, 'next.safetensors');
  const receipt = { ...STAMP, initializer: 'cartridge', parents: [describeParent(parent, 'b'.repeat(64))] };
  await writeCartridge(path, { ...parent, receipt }, { dtype: 'f32' });
  return { cartridge: await readCartridge(path), sizeBytes: statSync(path).size };
}

test('a hundred generations can be read, and take no more room than two', async () => {
  let { cartridge, sizeBytes } = await nextGeneration((await nextGeneration(randomCartridge(3))).cartridge);
  const ofTwo = sizeBytes;
  for (let generation = 3; generation <= 100; generation++) ({ cartridge, sizeBytes } = await nextGeneration(cartridge));
  expect(cartridge.receipt['parents']).toEqual([
    {
      contentHash: 'b'.repeat(64),
      tokenCount: 3,
      frozenCount: 1,
      generations: 99,
      receipt: { ...STAMP, initializer: 'cartridge' },
    },
  ]);
  expect(sizeBytes - ofTwo).toBeLessThan(16);
});

test('a cartridge that is composed with itself again and again has a receipt of one size', () => {
  const compositions = Array.from({ length: 3 });
  const compose = (cartridge: Cartridge) => composeCartridges([cartridge, cartridge], STAMP);
  const lengths = compositions.map((_, n) => {
    let cartridge: Cartridge = { ...randomCartridge(1), keys: [], values: [] };
    for (let generation = 0; generation <= n + 1; generation++) cartridge = compose(cartridge);
    return JSON.stringify(cartridge.receipt).length;
  });
  expect(new Set(lengths).size).toBe(1);
});

test('the longest line of parents is counted, also in receipts that hold the parents of parents', () => {
  const receipt = (parents?: unknown) => ({ ...STAMP, initializer: 'cartridge', ...(parents !== undefined && { parents }) });
  const old = receipt([{ receipt: receipt() }, { receipt: receipt([{ receipt: receipt() }]) }]);
  const generations = (parents: unknown) => describeParent({ ...randomCartridge(1), receipt: receipt(parents) }).generations;
  expect(generations(undefined)).toBe(0);
  expect(generations([])).toBe(0);
  expect(generations([{ receipt: old }, { generations: 1, receipt: receipt() }])).toBe(3);
  expect(generations([{ generations: 7 }])).toBe(8);
  expect(generations('none')).toBe(0);
  expect(generations([null, { generations: -4 }, { generations: 'x', receipt: 1 }])).toBe(1);
});
