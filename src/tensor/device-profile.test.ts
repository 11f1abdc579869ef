import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { Backend } from './backend.js';
import { profileDevice } from './device-profile.js';

const backend = new Backend({ device: 'cpu', threads: 1 });
afterAll(() => backend.dispose());

test('measures every type, chooses an exact one and keeps the measurement', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'profile-'));
  const cachePath = join(folder, 'profile.json');
  await writeFile(cachePath, 'damaged');
  const profile = await profileDevice(backend, { inputs: 64, outputs: 96, cachePath });
  expect(profile.measured.map(({ name }) => name)).toEqual(expect.arrayContaining(['f32', 'f16', 'bf16', 'q8_0']));
  expect(profile.measured.every(({ gigaflops }) => gigaflops > 0)).toBe(true);
  expect(['f32', 'f16', 'bf16']).toContain(profile.chosen.name);
  expect(await profileDevice(backend, { inputs: 64, outputs: 96, cachePath })).toEqual(profile);
  expect(Object.keys(JSON.parse(await readFile(cachePath, 'utf8')))).toHaveLength(1);
  await rm(folder, { recursive: true });
});

test('a cache that cannot be written costs the measurement only', async () => {
  const profile = await profileDevice(backend, { inputs: 64, outputs: 96, cachePath: '/dev/null/x/profile.json' });
  expect(['f32', 'f16', 'bf16']).toContain(profile.chosen.name);
});

test.each([
  { fileType: { name: 'q4_1', type: 3 }, count: 1 },
  { fileType: { name: 'q8_0', type: 8 }, count: 1 },
  // Numbers cannot be brought into it without knowing their importance.
  { fileType: { name: 'iq2_xxs', type: 16 }, count: 0 },
  // Over these ggml would end the process.
  { fileType: { name: 'q8_1', type: 9 }, count: 0 },
  { fileType: { name: 'q8_k', type: 15 }, count: 0 },
  { fileType: { name: 'i8', type: 24 }, count: 0 },
  { fileType: { name: 'f64', type: 28 }, count: 0 },
])('measures $fileType.name of the file once, and never chooses it for its speed', async ({ fileType, count }) => {
  const { measured, chosen } = await profileDevice(backend, { inputs: 256, outputs: 256, fileType });
  const speeds = measured.filter(({ name, bufferType }) => name === fileType.name && bufferType === undefined);
  expect(speeds).toHaveLength(count);
  expect(speeds.every(({ gigaflops }) => gigaflops > 0)).toBe(true);
  expect(['f32', 'f16', 'bf16']).toContain(chosen.name);
});
