import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { loadEngine } from '../../native/engine.js';
import { findOneDnn, type OneDnnLibrary } from '../../native/onednn/library.js';
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
  const kept = async () => Object.keys(JSON.parse(await readFile(cachePath, 'utf8')));
  expect(await kept()).toHaveLength(1);
  vi.stubEnv('ONEDNN_MAX_CPU_ISA', 'AVX2');
  await profileProducts(loadEngine(), { inputs: 65, outputs: 97, cachePath });
  expect(await kept()).toHaveLength(findOneDnn().state === 'found' ? 2 : 1);
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true });
});

test('what fails is told and not kept: the next start tries again', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'products-'));
  const cachePath = join(folder, 'products.json');
  const library = { path: '/nowhere/libdnnl.so.3', version: '3.2.0' } as OneDnnLibrary;
  const failing = { inputs: 65, outputs: 97, cachePath, search: { state: 'found', library } as const };
  const profile = await profileProducts(loadEngine(), failing);
  expect(profile.problem).toContain('shared library');
  expect(profile.measured.map(({ weightType }) => weightType)).toEqual(['f32', 'f16', 'bf16']);
  await expect(readFile(cachePath)).rejects.toMatchObject({ code: 'ENOENT' });
  await rm(folder, { recursive: true });
});

test('a cache that cannot be written costs the measurement only', async () => {
  const profile = await profileProducts(loadEngine(), { inputs: 65, outputs: 97, cachePath: '/dev/null/x/products.json' });
  expect(profile.measured.map(({ weightType }) => weightType)).toEqual(expect.arrayContaining(['f32', 'f16', 'bf16']));
});

test('a failure of ggml is not told as one of oneDNN', async () => {
  const engine = loadEngine();
  const allocate = (() => null) as unknown as typeof engine.ggml.ggml_backend_alloc_buffer;
  const withoutMemory = { ...engine, ggml: { ...engine.ggml, ggml_backend_alloc_buffer: allocate } };
  const profile = await profileProducts(withoutMemory, { inputs: 65, outputs: 97, search: { state: 'missing' } });
  expect(profile).toEqual({ oneDnn: undefined, problem: undefined, measured: [] });
});
