import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadEngine } from '../../native/engine.js';
import { findOneDnn } from '../../native/onednn/library.js';
import { profileProducts } from './profile-products.js';

test('measures every provider on one core, and keeps the measurement', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'products-'));
  const cachePath = join(folder, 'products.json');
  await writeFile(cachePath, 'damaged');
  const profile = await profileProducts(loadEngine(), { inputs: 65, outputs: 97, cachePath });
  expect(profile.measured.every(({ gigaflops }) => gigaflops > 0)).toBe(true);
  const byGgml = profile.measured.filter(({ products }) => products.provider === 'ggml');
  expect(byGgml.map(({ weightType }) => weightType)).toEqual(['f32', 'f16', 'bf16']);
  const byOneDnn = profile.measured.filter(({ products }) => products.provider === 'oneDNN');
  expect(byOneDnn.map(({ weightType }) => weightType)).toEqual(
    findOneDnn().state === 'found' ? expect.arrayContaining(['f32']) : [],
  );
  expect(byOneDnn.flatMap(({ implementations }) => implementations).filter((name) => /\bref\b/.test(name))).toEqual([]);
  expect(await profileProducts(loadEngine(), { inputs: 65, outputs: 97, cachePath })).toEqual(profile);
  expect(Object.keys(JSON.parse(await readFile(cachePath, 'utf8')))).toHaveLength(1);
  await rm(folder, { recursive: true });
});
