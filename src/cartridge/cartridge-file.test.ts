import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { randomCartridge } from '../../test/support/cartridges.js';
import { goldenNames, readGolden } from '../../test/support/golden.js';
import { CartridgesError } from '../core/errors.js';
import { Random } from '../core/random.js';
import type { Cartridge } from './cartridge.js';
import { readCartridge, readCartridgeHeader, writeCartridge } from './cartridge-file.js';
import { decodeFloats, encodeFloats, type FloatType } from './float-conversion.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridge-'));
afterAll(() => rmSync(folder, { recursive: true }));

const path = join(folder, 'notes.cartridge.safetensors');
const TYPES: FloatType[] = ['f32', 'f16', 'bf16'];

type Json = Record<string, unknown>;

/** The header of the file at `path`, changed and written back with the data as it is. */
function changeHeader(change: (header: Record<string, Json>) => void): void {
  const bytes = readFileSync(path);
  const end = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString('utf8', 8, end));
  change(header);
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(path, Buffer.concat([length, json, bytes.subarray(end)]));
}

function changeMetadata(change: (metadata: Record<string, string>) => void): void {
  changeHeader((header) => change(header['__metadata__'] as Record<string, string>));
}

function changeJson(key: string, change: (value: Json) => void): void {
  changeMetadata((metadata) => {
    const value = JSON.parse(metadata[key]!);
    change(value);
    metadata[key] = JSON.stringify(value);
  });
}

function rounded(cartridge: Cartridge, type: FloatType): Cartridge {
  const round = (array: Float32Array) => decodeFloats(encodeFloats(array, type), type);
  return { ...cartridge, keys: cartridge.keys.map(round), values: cartridge.values.map(round) };
}

describe.each(TYPES)('as %s', (dtype) => {
  test.each([0, 1, 3])('a cartridge with %d of three rows frozen comes back', async (frozenCount) => {
    const cartridge = randomCartridge(3, frozenCount);
    await writeCartridge(path, cartridge, { dtype });
    expect(await readCartridge(path)).toEqual(rounded(cartridge, dtype));
  });

  test('the header alone tells all but the rows', async () => {
    const { keys: _keys, values: _values, ...described } = randomCartridge(5);
    await writeCartridge(path, randomCartridge(5), { dtype });
    const header = await readCartridgeHeader(path);
    expect(header).toMatchObject({ ...described, storedAs: dtype, fileSize: readFileSync(path).length });
    expect(header.contentHash).toMatch(/^[0-9a-f]{64}$/);
  });
});

test('the stored form is the documented one', async () => {
  await writeCartridge(path, randomCartridge(3, 1), { dtype: 'bf16' });
  changeHeader((header) => {
    expect(Object.keys(header)).toEqual(['__metadata__', 'layers.0.key', 'layers.0.value', 'layers.1.key', 'layers.1.value']);
    expect(header['layers.1.key']).toMatchObject({ dtype: 'BF16', shape: [3, 2, 4] });
    expect(header['__metadata__']).toMatchObject({
      format: 'cartridge',
      format_version: '1',
      positions: '0-2',
      frozen_count: '1',
    });
  });
});

test('equal rows have equal content hashes, whatever the rest', async () => {
  const cartridge = randomCartridge(3);
  const hashOf = async (changed: Cartridge) => {
    await writeCartridge(path, changed, { dtype: 'f32' });
    return (await readCartridgeHeader(path)).contentHash;
  };
  const hash = await hashOf(cartridge);
  expect(await hashOf({ ...cartridge, receipt: { ...cartridge.receipt, initializer: 'other' } })).toBe(hash);
  expect(await hashOf(randomCartridge(3, 1, 2))).not.toBe(hash);
});

test('golden rows survive f32 exactly', async () => {
  const golden = readGolden(goldenNames()[0]!);
  const values = golden.tensors['cartridge.keys']!.subarray(0, 48);
  const cartridge = { ...randomCartridge(3), keys: [values.slice(0, 24), values.slice(24, 48)] };
  await writeCartridge(path, cartridge, { dtype: 'f32' });
  expect((await readCartridge(path)).keys).toEqual(cartridge.keys);
});

const deep = (depth: number): unknown => (depth === 0 ? 1 : { inner: deep(depth - 1) });

describe('writing refuses', () => {
  const circle: Json = {};
  circle['again'] = circle;
  test.each<[string, FloatType, (cartridge: Cartridge) => void, RegExp]>([
    ['NaN', 'f32', (cartridge) => cartridge.keys[1]!.fill(Number.NaN, 3, 4), /the keys of layer 1 hold infinite values/],
    ['infinity', 'bf16', (cartridge) => cartridge.values[0]!.fill(-1 / 0, 0, 1), /the values of layer 0 hold infinite/],
    ['what f16 cannot hold', 'f16', (cartridge) => cartridge.keys[0]!.fill(65520, 0, 1), /layer 0 are too large for f16/],
    ['no rows', 'f32', (cartridge) => (cartridge.tokenCount = 0), /number of rows is 0/],
    ['more frozen rows than rows', 'f32', (cartridge) => (cartridge.frozenCount = 4), /number of frozen rows is 4/],
    ['a missing layer', 'f32', (cartridge) => cartridge.values.pop(), /1 layers of values, its model 2/],
    ['a short layer', 'f32', (cartridge) => (cartridge.keys[0] = new Float32Array(23)), /keys of layer 0 are 23, not 24/],
    ['a receipt like a well', 'f32', ({ receipt }) => (receipt['deep'] = deep(64)), /its receipt is wrong: nested more than 64/],
    ['a receipt in itself', 'f32', ({ receipt }) => (receipt['circle'] = circle), /its receipt has no form in JSON/],
    ['a receipt without a maker', 'f32', ({ receipt }) => (receipt.createdBy = undefined as never), /its receipt.createdBy/],
    ['a long receipt', 'f32', ({ receipt }) => (receipt['notes'] = 'n'.repeat(16 << 20)), /header of .* would take 16\d+ bytes/],
    ['a hash that is none', 'bf16', ({ model }) => (model.weightsHash = 'ff'), /its model.weightsHash is wrong/],
    ['a framing without a name', 'f32', ({ framing }) => (framing.name = ''), /its framing.name is wrong/],
  ])('%s, and leaves no file', async (_name, dtype, spoil, reason) => {
    const target = join(folder, 'never.safetensors');
    const cartridge = structuredClone(randomCartridge(3));
    spoil(cartridge);
    const error = await writeCartridge(target, cartridge, { dtype }).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'INVALID_CARTRIDGE', message: expect.stringMatching(reason) });
    expect(error.hint ?? '').not.toContain('get it again');
    expect(readdirSync(folder).filter((name) => name.includes('never'))).toEqual([]);
  });
});

describe('reading refuses', () => {
  const shallow = { createdBy: 'a', createdAt: 'b', initializer: 'c' };

  test.each<[string, () => void, RegExp]>([
    ['another safetensors file', () => changeHeader((header) => delete header['__metadata__']), /of another kind/],
    ['a missing version', () => changeMetadata((metadata) => delete metadata['format_version']), /format_version is missing/],
    [
      'a row of another number',
      () => changeHeader((header) => (header['layers.0.key']!['shape'] = [3, 4, 2])),
      /is \[3,4,2\], expected/,
    ],
    ['a missing layer', () => changeJson('model', (model) => (model['layers'] = 3)), /layers.2.key is missing/],
    ['a layer too many', () => changeJson('model', (model) => (model['layers'] = 1)), /it has 4 tensors, not 2/],
    ['other heads', () => changeJson('model', (model) => (model['kvHeads'] = 4)), /expected \[3,4,4\]/],
    ['layers beyond the limit', () => changeJson('model', (model) => (model['layers'] = 1e9)), /model.layers is wrong/],
    ['half a head', () => changeJson('model', (model) => (model['headDimension'] = 4.5)), /model.headDimension is wrong/],
    ['an unknown field', () => changeJson('model', (model) => (model['extra'] = 1)), /model is wrong.*extra/],
    ['a model that is no JSON', () => changeMetadata((metadata) => (metadata['model'] = '{')), /its model is not JSON/],
    ['a missing framing', () => changeMetadata((metadata) => delete metadata['framing']), /framing is missing/],
    ['a hash that is none', () => changeJson('framing', (framing) => (framing['hash'] = 'ff')), /framing.hash is wrong/],
    [
      'a receipt without a maker',
      () => changeJson('receipt', (receipt) => delete receipt['createdBy']),
      /receipt.createdBy is wrong/,
    ],
    [
      'a receipt like a well',
      () => changeMetadata((metadata) => (metadata['receipt'] = JSON.stringify({ ...shallow, deep: deep(100) }))),
      /nested more than 64 deep/,
    ],
    ['too many frozen rows', () => changeMetadata((metadata) => (metadata['frozen_count'] = '4')), /frozen rows is 4/],
    [
      'negative frozen rows',
      () => changeMetadata((metadata) => (metadata['frozen_count'] = '-1')),
      /frozen_count cannot be "-1"/,
    ],
    [
      'other positions',
      () => changeMetadata((metadata) => (metadata['positions'] = '5-7')),
      /stand at positions 5-7, expected 0-2/,
    ],
    [
      'another content hash',
      () => changeMetadata((metadata) => (metadata['content_hash'] = '0'.repeat(64))),
      /not those that were written/,
    ],
  ])('%s', async (_name, spoil, reason) => {
    await writeCartridge(path, randomCartridge(3), { dtype: 'f32' });
    spoil();
    await expect(readCartridge(path)).rejects.toThrow(reason);
    await expect(readCartridge(path)).rejects.toMatchObject({ code: 'INVALID_CARTRIDGE' });
  });

  test('a newer format, and says to update', async () => {
    await writeCartridge(path, randomCartridge(3), { dtype: 'f32' });
    changeMetadata((metadata) => (metadata['format_version'] = '2'));
    await expect(readCartridgeHeader(path)).rejects.toMatchObject({
      code: 'INVALID_CARTRIDGE',
      message: expect.stringContaining('format version 2'),
      hint: expect.stringContaining('update'),
    });
  });

  test('rows that are not finite, even with the right hash', async () => {
    await writeCartridge(path, randomCartridge(3), { dtype: 'f32' });
    const bytes = readFileSync(path);
    bytes.writeFloatLE(Number.NaN, bytes.length - 4);
    writeFileSync(path, bytes);
    await expect(readCartridge(path)).rejects.toThrow(/layers.1.value holds infinite values/);
  });
});

/** Values of JSON that break what prints or walks them. */
const HOSTILE = {
  'no printable object': '{"toString":1,"valueOf":1,"toJSON":1,"then":1}',
  'a deep list': `${'['.repeat(200_000)}${']'.repeat(200_000)}`,
  'a deep object': `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`,
  prototypes: '{"__proto__":{"dtype":"F32"},"constructor":{"prototype":1}}',
  nothing: 'null',
  'a huge number': '1e999',
  'a long text': `"${'x'.repeat(1 << 20)}"`,
};

/** The names of all values in a value of JSON, from the outermost on. */
function pathsIn(value: unknown, path: string[] = []): string[][] {
  const inner = typeof value === 'object' && value !== null ? Object.entries(value) : [];
  return [path, ...inner.flatMap(([key, item]) => pathsIn(item, [...path, key]))];
}

/** JSON in which the value at a path is the text given: some are too deep for `JSON.stringify`. */
function withTextAt(value: unknown, path: string[], text: string): string {
  const copy = structuredClone({ root: value });
  const last = path.at(-1) ?? 'root';
  const holder = ['root', ...path].slice(0, -1).reduce<Json>((at, key) => at[key] as Json, copy);
  holder[last] = '@here@';
  return JSON.stringify(copy.root).replace('"@here@"', () => text);
}

test.each(Object.entries(HOSTILE))('a header that holds %s in any place is refused or read', async (_name, text) => {
  await writeCartridge(path, randomCartridge(3), { dtype: 'f16' });
  const original = readFileSync(path);
  const end = 8 + Number(original.readBigUInt64LE());
  const header = JSON.parse(original.toString('utf8', 8, end));
  const headers = pathsIn(header).map((place) => withTextAt(header, place, text));
  for (const key of ['model', 'framing', 'receipt']) {
    const { __metadata__: metadata } = header;
    const fields = JSON.parse(metadata[key]);
    const changed = pathsIn(fields).map((place) => withTextAt(fields, place, text));
    headers.push(...changed.map((json) => JSON.stringify({ ...header, __metadata__: { ...metadata, [key]: json } })));
  }
  for (const json of headers) {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(Buffer.byteLength(json)));
    writeFileSync(path, Buffer.concat([length, Buffer.from(json), original.subarray(end)]));
    const result = await readCartridge(path).catch((error: unknown) => error);
    if (result instanceof Error) expect(result).toMatchObject({ code: 'INVALID_CARTRIDGE' });
  }
  expect(headers.length).toBeGreaterThan(30);
});

test('a damaged file is refused or read, and nothing else', async () => {
  await writeCartridge(path, randomCartridge(3), { dtype: 'f16' });
  const original = readFileSync(path);
  const random = new Random(11);
  const memoryBefore = process.memoryUsage().rss;
  let refused = 0;
  for (let round = 0; round < 1500; round++) {
    const bytes = Buffer.from(original);
    for (let change = 0; change <= random.integer(3); change++) bytes[random.integer(bytes.length)] = random.integer(256);
    writeFileSync(path, random.integer(4) === 0 ? bytes.subarray(0, random.integer(bytes.length)) : bytes);
    const result = await readCartridge(path).catch((error: unknown) => error);
    if (!(result instanceof Error)) continue;
    if (!CartridgesError.is(result) || result.code === 'INTERNAL') throw result;
    refused++;
  }
  expect(refused).toBeGreaterThan(1000);
  expect(process.memoryUsage().rss - memoryBefore).toBeLessThan(256 << 20);
});
