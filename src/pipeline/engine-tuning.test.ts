import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type EngineTuning, readTuning, writeTuning } from './engine-tuning.js';

const TUNING: EngineTuning = {
  threads: 4,
  decodeThreads: 2,
  batchTokens: 256,
  flashAttention: true,
  cacheType: 'f16',
  extraBuffers: false,
  weights: 'stored',
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cartridges-tuning-'));
  vi.stubEnv('CARTRIDGES_CACHE', folder);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

it('keeps a tuning for each model', async () => {
  await writeTuning('a'.repeat(64), TUNING);
  await writeTuning('b'.repeat(64), { ...TUNING, threads: 1 });
  expect(await readTuning('a'.repeat(64))).toEqual(TUNING);
  expect(await readTuning('b'.repeat(64))).toMatchObject({ threads: 1 });
  expect(await readTuning('c'.repeat(64))).toBeUndefined();
});

it('takes a damaged file for none', async () => {
  const path = await writeTuning('a'.repeat(64), TUNING);
  writeFileSync(path, '{"half');
  expect(await readTuning('a'.repeat(64))).toBeUndefined();
  await writeTuning('a'.repeat(64), TUNING);
  writeFileSync(path, JSON.stringify({ x: 1 }));
  expect(await readTuning('a'.repeat(64))).toBeUndefined();
});

it('does not hand out a tuning that the engine would refuse', async () => {
  await writeTuning('a'.repeat(64), { ...TUNING, threads: 0 });
  expect(await readTuning('a'.repeat(64))).toBeUndefined();
});
