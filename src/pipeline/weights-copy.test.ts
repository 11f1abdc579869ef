import { copyFileSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { compareLogits } from '../inference/compare-logits.js';
import { requantize } from '../inference/requantize.js';
import { logitsOf } from '../inference/score.js';
import { type GgufFile, readGguf } from '../models/gguf.js';
import { loadEngine } from '../native/engine.js';
import { writeTuning } from './engine-tuning.js';
import { ModelSession } from './model-session.js';
import { mayGainFromCopy, weightsPath } from './weights-copy.js';

const POCKET = 'models/pocket/pocket.gguf';
const HASH = 'a'.repeat(64);

const folder = mkdtempSync(join(tmpdir(), 'cartridges-weights-'));
const small = join(folder, 'small.gguf');
let gguf: GgufFile;
beforeAll(async () => {
  await requantize(loadEngine(), { from: POCKET, to: small, type: 'Q4_0', threads: 1 });
  gguf = readGguf(small);
});
beforeEach(() => {
  vi.stubEnv('CARTRIDGES_CACHE', mkdtempSync(join(folder, 'cache-')));
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

describe('requantize', () => {
  it('changes the type of matrices and nothing else', () => {
    const before = readGguf(POCKET);
    expect([...gguf.tensors.keys()].sort()).toEqual([...before.tensors.keys()].sort());
    expect([...gguf.tensors.values()].filter(({ typeName }) => typeName === 'Q4_0').length).toBeGreaterThan(30);
    for (const { name, typeName, shape } of before.tensors.values()) {
      expect(gguf.tensors.get(name)?.shape).toEqual(shape);
      if (typeName === 'F32') expect(gguf.tensors.get(name)?.typeName).toBe('F32');
    }
    expect(gguf.string('tokenizer.chat_template')).toBe(before.string('tokenizer.chat_template'));
  });

  it('says why a copy cannot be written', async () => {
    const to = join(folder, 'missing', 'small.gguf');
    await expect(requantize(loadEngine(), { from: POCKET, to, type: 'Q8_0', threads: 1 })).rejects.toMatchObject({
      code: 'ENGINE_FAILURE',
      message: expect.stringContaining('Q8_0: '),
    });
  });
});

describe('weightsPath', () => {
  it('is asked for smaller types only', () => {
    expect(mayGainFromCopy(gguf)).toBe(true);
    expect(mayGainFromCopy(readGguf(POCKET))).toBe(false);
    expect(mayGainFromCopy(readGguf('test/golden/tiny-llama.gguf'))).toBe(false);
  });

  it('gives the stored weights, or one copy that is made once', async () => {
    expect(await weightsPath(gguf, HASH, 'stored')).toBe(small);
    const path = await weightsPath(gguf, HASH, 'q8_0');
    const { ino } = statSync(path);
    expect(await weightsPath(gguf, HASH, 'q8_0')).toBe(path);
    expect(statSync(path).ino).toBe(ino);
    expect(mayGainFromCopy(readGguf(path))).toBe(false);
    expect(readdirSync(dirname(path))).toHaveLength(1);
  });

  it('makes a damaged copy anew', async () => {
    const path = await weightsPath(gguf, HASH, 'q8_0');
    const { size } = statSync(path);
    truncateSync(path, size / 2);
    expect(await weightsPath(gguf, HASH, 'q8_0')).toBe(path);
    expect(statSync(path).size).toBe(size);
    copyFileSync(join('test', 'golden', 'README.md'), path);
    await weightsPath(gguf, HASH, 'q8_0');
    expect(statSync(path).size).toBe(size);
  });
});

it('a session computes with the copy that a tuning names, and stays the same model', async () => {
  const stored = await ModelSession.open({ model: small, threads: 1 });
  const expected = await sampleLogits(stored);
  await writeTuning(stored.fingerprint.weightsHash, {
    threads: 1,
    decodeThreads: 1,
    batchTokens: 512,
    flashAttention: true,
    cacheType: 'f16',
    extraBuffers: true,
    weights: 'q8_0',
  });
  const copied = await ModelSession.open({ model: small, threads: 1 });
  const found = await sampleLogits(copied);
  expect(copied.languageModel.byteLength).toBeGreaterThan(1.5 * stored.languageModel.byteLength);
  expect(copied.fingerprint).toEqual(stored.fingerprint);
  expect(copied.tuning).toMatchObject({ weights: 'q8_0' });
  const { largest, meanKl } = compareLogits(expected, found, stored.config.vocabularySize);
  expect(largest).toBeGreaterThan(0);
  expect(meanKl).toBeLessThan(0.02);
  await Promise.all([stored.dispose(), copied.dispose()]);
});

async function sampleLogits(session: ModelSession): Promise<Float32Array> {
  const engine = await session.createEngine({ contextTokens: 256, maxRequests: 1 });
  return logitsOf(engine, session.tokenizer.encode('What does the keeper of the light note in the log?'));
}
