import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { GOLDEN_FOLDER, goldenNames, readGolden } from '../../test/support/golden.js';
import { CartridgesError } from '../core/errors.js';
import { encodeFloats } from './float-conversion.js';
import { SafetensorsFile, writeSafetensors } from './safetensors.js';

const folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
afterAll(() => rmSync(folder, { recursive: true }));

const path = join(folder, 'a.safetensors');

/** A file of this header, or header text, and so many bytes of data. */
function write(header: unknown, dataBytes: number, claimedBytes?: bigint): void {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(claimedBytes ?? BigInt(json.length));
  writeFileSync(path, Buffer.concat([length, json, Buffer.alloc(dataBytes)]));
}

async function messageOf(): Promise<string> {
  const file = await SafetensorsFile.open(path).catch((error: unknown) => error);
  if (CartridgesError.is(file)) return `${file.code}: ${file.message}`;
  await (file as SafetensorsFile).close();
  return 'read';
}

const ROW = { dtype: 'F32', shape: [2], data_offsets: [0, 8] };

describe.each(goldenNames())('%s', (name) => {
  test('golden arrays', async () => {
    const golden = readGolden(name);
    const file = await SafetensorsFile.open(golden.path.replace(/gguf$/, 'safetensors'));
    const names = [...file.tensors.keys()];
    expect(names.sort()).toEqual(Object.keys(golden.tensors).sort());
    for (const tensor of names) expect(await file.readFloats(tensor)).toEqual(golden.tensors[tensor]);
    await file.close();
  });
});

test('bf16 of the Python library', async () => {
  const file = await SafetensorsFile.open(join(GOLDEN_FOLDER, 'upstream-cartridge.safetensors'));
  expect(file.entry('keys_gguf')).toMatchObject({ type: 'bf16', shape: [2, 2, 8, 16], byteLength: 1024 });
  const [keys, reordered] = [await file.readFloats('keys'), await file.readFloats('keys_gguf')];
  // Element j·D/2 + i of a row of 16 moved to 2i + j.
  expect(reordered).toEqual(keys.map((_, at) => keys[at - (at % 16) + (at % 2) * 8 + ((at % 16) >> 1)]!));
  await file.close();
});

test('what is written is read, metadata and order included', async () => {
  const values = Float32Array.of(1, 2, 3, 4, 5, 6);
  const tensors = ['b', 'a'].map((name) => ({ name, shape: [2, 3], bytes: encodeFloats(values, 'f16') }));
  await writeSafetensors(path, tensors, 'f16', { about: 'größer' });
  const file = await SafetensorsFile.open(path);
  expect(file.metadata).toEqual({ about: 'größer' });
  expect([...file.tensors.keys()]).toEqual(['b', 'a']);
  expect(file.entry('b').offset % 8).toBe(0);
  expect(await file.readFloats('a')).toEqual(values);
  await expect(file.readFloats('c')).rejects.toThrow(/the tensor c is missing/);
  await file.close();
});

test('a header that is too large to be read is not written', async () => {
  const target = join(folder, 'large.safetensors');
  await expect(writeSafetensors(target, [], 'f32', { about: 'x'.repeat(16 << 20) })).rejects.toMatchObject({
    code: 'INVALID_CARTRIDGE',
    message: expect.stringContaining('more than the 16777216 that are read'),
  });
  expect(existsSync(target)).toBe(false);
});

describe('refuses', () => {
  test.each<[string, unknown, number, RegExp]>([
    ['what is not JSON', '{"a":', 8, /header is not JSON/],
    ['a list', [], 0, /not a JSON object/],
    ['metadata that are no texts', { __metadata__: { a: 1 } }, 0, /metadata are not texts/],
    ['a tensor that is a number', { a: 1 }, 8, /a is of type undefined/],
    ['a type that has no floats', { a: { ...ROW, dtype: 'I32' } }, 8, /of type I32/],
    ['a type that cannot be printed', { a: { ...ROW, dtype: { toString: 1, valueOf: 1 } } }, 8, /of type object/],
    ['a type like a well', `{"a":{"dtype":${'['.repeat(200_000)}${']'.repeat(200_000)}}}`, 0, /of type object/],
    ['a type named like a method', { a: { ...ROW, dtype: 'constructor' } }, 8, /of type constructor/],
    ['a negative extent', { a: { ...ROW, shape: [-2] } }, 8, /no valid shape/],
    ['an extent that is no number', { a: { ...ROW, shape: ['2'] } }, 8, /no valid shape/],
    ['nine dimensions', { a: { ...ROW, shape: [2, 1, 1, 1, 1, 1, 1, 1, 1] } }, 8, /no valid shape/],
    ['a shape that overflows', { a: { ...ROW, shape: [2 ** 40, 2 ** 40] } }, 8, /8 bytes, and .* by its shape/],
    ['a shape of another size', { a: { ...ROW, shape: [3] } }, 8, /8 bytes, and 12 by its shape/],
    ['three offsets', { a: { ...ROW, data_offsets: [0, 8, 8] } }, 8, /no valid offsets/],
    ['falling offsets', { a: { ...ROW, data_offsets: [8, 0] } }, 8, /-8 bytes/],
    ['a gap', { a: { ...ROW, data_offsets: [8, 16] } }, 16, /begins at byte .* expected/],
    ['an overlap', { a: ROW, b: { ...ROW, data_offsets: [4, 12] } }, 12, /b begins at byte/],
    ['two tensors in one place', { a: ROW, b: ROW }, 8, /b begins at byte/],
    ['data that nobody claims', { a: ROW }, 9, /tensors end at byte/],
    ['data cut short', { a: ROW }, 7, /tensors end at byte/],
  ])('%s', async (_name, header, dataBytes, reason) => {
    write(header, dataBytes);
    expect(await messageOf()).toMatch(reason);
    expect(await messageOf()).toMatch(/^INVALID_CARTRIDGE/);
  });

  test.each([2n ** 64n - 1n, 2n ** 63n, 1n << 40n, 100n])(
    'a header that claims %d bytes, allocating nothing',
    async (claimed) => {
      write({}, 0, claimed);
      const before = process.memoryUsage().arrayBuffers;
      expect(await messageOf()).toMatch(/^INVALID_CARTRIDGE.*its header claims/);
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
    },
  );

  test('an empty file, a folder, and nothing', async () => {
    writeFileSync(path, '');
    expect(await messageOf()).toMatch(/ends at byte 0/);
    await expect(SafetensorsFile.open(folder)).rejects.toMatchObject({ code: 'INVALID_CARTRIDGE' });
    await expect(SafetensorsFile.open(join(folder, 'none'))).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
  });
});
