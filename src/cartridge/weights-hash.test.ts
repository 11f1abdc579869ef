import { appendFileSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { readGolden } from '../../test/support/golden.js';
import type { ProgressEvent } from '../core/progress.js';
import { GgufFile, readGguf } from '../models/gguf.js';
import { hashWeights } from './weights-hash.js';

let folder: string;
let model: string;
let cacheFile: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'weights-'));
  model = join(folder, 'model.gguf');
  cacheFile = join(folder, 'cache', 'weights-hashes.json');
  copyFileSync(readGolden('tiny-llama').path, model);
  return () => rmSync(folder, { recursive: true });
});

/** The hash, and the bytes that were read for it. */
async function hash(): Promise<{ hash: string; bytes: number }> {
  let bytes = 0;
  const onProgress = (event: ProgressEvent) => {
    if (event.kind === 'progress') bytes = event.done;
  };
  return { hash: await hashWeights(readGguf(model), join(folder, 'cache'), { onProgress }), bytes };
}

function flipLastByte(): void {
  const bytes = readFileSync(model);
  bytes[bytes.length - 1]! ^= 1;
  writeFileSync(model, bytes);
}

test('is remembered until size or time change', async () => {
  const first = await hash();
  expect(first.hash).toMatch(/^[0-9a-f]{64}$/);
  expect(first.bytes).toBeGreaterThan(500_000);
  expect(await hash()).toEqual({ hash: first.hash, bytes: 0 });
  utimesSync(model, 1, 1);
  expect(await hash()).toEqual(first);
});

test('one other bit of data is another hash', async () => {
  const before = await hash();
  flipLastByte();
  utimesSync(model, 1, 1);
  expect((await hash()).hash).not.toBe(before.hash);
});

test('metadata do not count, types do', async () => {
  const plain = (await hash()).hash;
  const gguf = readGguf(model);
  const retyped = new Map([...gguf.tensors].map(([name, tensor]) => [name, { ...tensor, typeName: 'I32' }]));
  expect(await hashWeights(new GgufFile({ ...gguf, metadata: new Map() }), join(folder, 'other'))).toBe(plain);
  expect(await hashWeights(new GgufFile({ ...gguf, tensors: retyped }), join(folder, 'third'))).not.toBe(plain);
});

test.each([
  ['no JSON', '{'],
  ['of another shape', '{"a":1}'],
  ['a list', '[]'],
  ['too long', ' '.repeat(2 << 20)],
])('a cache that is %s is ignored and written anew', async (_name, content) => {
  mkdirSync(join(folder, 'cache'));
  writeFileSync(cacheFile, content);
  const { hash: found, bytes } = await hash();
  expect(bytes).toBeGreaterThan(0);
  expect(JSON.parse(readFileSync(cacheFile, 'utf8'))[model]).toMatchObject({ hash: found });
});

test('a cache that cannot be written is a warning', async () => {
  writeFileSync(join(folder, 'cache'), 'a file where a folder should be');
  const events: ProgressEvent[] = [];
  await hashWeights(readGguf(model), join(folder, 'cache'), { onProgress: (event) => events.push(event) });
  expect(events.at(-1)).toMatchObject({ kind: 'warning', message: expect.stringContaining("cannot remember the model's hash") });
});

test('stops on abort and leaves no cache', async () => {
  await expect(hashWeights(readGguf(model), join(folder, 'cache'), { signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: 'CANCELLED',
  });
  expect(() => readFileSync(cacheFile)).toThrow(/ENOENT/);
});

test('a file that changed since its header was read is refused', async () => {
  const gguf = readGguf(model);
  appendFileSync(model, 'x');
  await expect(hashWeights(gguf, folder)).rejects.toMatchObject({ code: 'INVALID_MODEL' });
});
