import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { randomCartridge } from '../../../test/support/cartridges.js';
import { damaged } from '../../../test/support/damage.js';
import { GOLDEN_FOLDER, readGolden, rowsByLayer } from '../../../test/support/golden.js';
import { CartridgesError } from '../../core/errors.js';
import { Random } from '../../core/random.js';
import { readGguf } from '../../models/gguf.js';
import { fingerprintOf } from '../fingerprint.js';
import { decodeFloats, encodeFloats } from '../float-conversion.js';
import { SafetensorsFile } from '../safetensors.js';
import { parseCheckpoint } from './checkpoint-rows.js';
import { readCheckpoint } from './read-checkpoint.js';
import { readZip } from './zip-reader.js';
import { writeZip } from './zip-writer.js';

const folder = mkdtempSync(join(tmpdir(), 'checkpoint-'));
afterAll(() => rmSync(folder, { recursive: true }));

const golden = readGolden('tiny-llama');
const model = fingerprintOf(readGguf(golden.path), 'a'.repeat(64));
const { framing } = randomCartridge(1);
const pathOf = (name: string) => join(GOLDEN_FOLDER, `${name}.pt`);

let expected: Record<'keys' | 'values' | 'keys_gguf', Float32Array[]>;

beforeAll(async () => {
  const file = await SafetensorsFile.open(join(GOLDEN_FOLDER, 'upstream-cartridge.safetensors'));
  const rows = async (name: string) => rowsByLayer({ ...golden, tensors: { [name]: await file.readFloats(name) } }, name, 8);
  expected = { keys: await rows('keys'), values: await rows('values'), keys_gguf: await rows('keys_gguf') };
  await file.close();
});

describe.each([
  ['upstream-frozen1', 1],
  ['upstream-frozen0', 0],
  ['upstream-fixed', 2],
  ['upstream-lists', 1],
])('%s', (name, frozenCount) => {
  test('has the rows that the Python project saved', () => {
    const { keys, values, ...rest } = parseCheckpoint(readFileSync(pathOf(name)), name);
    expect(rest).toEqual({ type: 'bf16', kvHeads: 2, headDimension: 16, tokenCount: 8, frozenCount });
    expect({ keys, values }).toEqual({ keys: expected.keys, values: expected.values });
  });

  test('becomes a cartridge of a llama GGUF, whose keys are permuted', async () => {
    const { cartridge, type } = await readCheckpoint(pathOf(name), { model, framing });
    expect(type).toBe('bf16');
    expect(cartridge).toMatchObject({ model, framing, tokenCount: 8, frozenCount });
    expect(cartridge.keys).toEqual(expected.keys_gguf);
    expect(cartridge.values).toEqual(expected.values);
    expect(cartridge.receipt).toMatchObject({ initializer: 'imported', importedFrom: { format: 'pt', name: `${name}.pt` } });
  });

  test('keeps its order for a qwen GGUF, which is not permuted', async () => {
    const qwen = { ...model, architecture: 'qwen3' };
    const { cartridge } = await readCheckpoint(pathOf(name), { model: qwen, framing });
    expect(cartridge.keys).toEqual(expected.keys);
  });
});

test.each(['f16', 'f32'] as const)('rows in %s are read', async (type) => {
  const storageClass = { f16: 'torch\nHalfStorage\n', f32: 'torch\nFloatStorage\n' }[type];
  const path = join(folder, `${type}.pt`);
  const entries = [...readZip(readFileSync(pathOf('upstream-lists')), path)].map(([name, content]) => {
    if (name.includes('/data/')) return { name, bytes: encodeFloats(decodeFloats(content, 'bf16'), type) };
    const text = Buffer.from(content).toString('latin1').replace('torch\nBFloat16Storage\n', storageClass);
    return { name, bytes: Buffer.from(text, 'latin1') };
  });
  await writeZip(path, entries);
  const { keys, values, ...rest } = parseCheckpoint(readFileSync(path), path);
  expect(rest).toMatchObject({ type, tokenCount: 8, frozenCount: 1 });
  expect(keys).toEqual(expected.keys.map((layer) => decodeFloats(encodeFloats(layer, type), type)));
  expect(values).toHaveLength(2);
});

test('a pickle that would run a command is refused, and nothing runs', async () => {
  const refusal = { code: 'INVALID_CARTRIDGE', message: expect.stringMatching(/wants to use "posix system".*nothing was run/) };
  await expect(readCheckpoint(pathOf('evil'), { model, framing })).rejects.toMatchObject(refusal);
  expect(existsSync('pwned')).toBe(false);
});

test.each([
  ['layers', { layers: 3 }, /has 2 layers of 2 heads of 16, the model 3 layers/],
  ['heads', { kvHeads: 1 }, /the model 2 layers of 1 heads/],
  ['head sizes', { headDimension: 32 }, /2 heads of 32/],
])('a model with other %s is refused', async (_what, change, message) => {
  const owner = { model: { ...model, ...change }, framing };
  const refusal = { code: 'CARTRIDGE_MISMATCH', message: expect.stringMatching(message) };
  await expect(readCheckpoint(pathOf('upstream-lists'), owner)).rejects.toMatchObject(refusal);
});

describe('refuses', () => {
  const invalid = (message: RegExp) =>
    expect.objectContaining({ code: 'INVALID_CARTRIDGE', message: expect.stringMatching(message) });

  test('what is no file', async () => {
    await expect(readCheckpoint(folder, { model, framing })).rejects.toEqual(invalid(/it is no file/));
    await expect(readCheckpoint(join(folder, 'none.pt'), { model, framing })).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
  });

  test('numbers that are not finite', async () => {
    const bytes = withEntry('upstream-lists', 'data/0', (storage) => storage.writeUInt16LE(0x7f80, 6));
    const path = join(folder, 'infinite.pt');
    writeFileSync(path, bytes);
    await expect(readCheckpoint(path, { model, framing })).rejects.toEqual(invalid(/keys of layer 0 hold infinite values/));
  });

  test.each<[string, string, string, RegExp]>([
    ['another name of a list', 'frozen_keys', 'frozen_kets', /frozen_keys are missing/],
    ['a type that no cartridge has', 'BFloat16Storage', 'ComplexStorages', /wants to use "torch ComplexStorages"/],
    ['a storage that is not there', 'X\x01\0\0\x000q', 'X\x01\0\0\x009q', /its storage 9 has no bytes/],
    ['a storage of another size', 'cpuq\x07K\xe0', 'cpuq\x07K\xdf', /its storage 0 has 448 bytes, and 446/],
    // [1, 2, 7, 16] with strides (224, 112, 16, 1).
    ['another shape in one layer', '(K\x01K\x02K\x07K\x10t', '(K\x01K\x02K\x08K\x10t', /reaches beyond its storage/],
    [
      'a shape of fewer rows',
      '(K\x01K\x02K\x07K\x10t',
      '(K\x01K\x02K\x06K\x10t',
      /have a tensor \[1,2,7,16\] where \[1,2,6,16\]/,
    ],
    ['rows that overlap', 'K\xe0KpK\x10K\x01t', 'K\xe0KpK\x0fK\x01t', /overlaps itself/],
    ['one number repeated', 'K\xe0KpK\x10K\x01t', 'K\xe0KpK\x10K\x00t', /overlaps itself/],
  ])('%s', (_what, from, to, message) => {
    const bytes = withEntry('upstream-lists', 'data.pkl', (pickle) => replaceFirst(pickle, from, to));
    expect(() => parseCheckpoint(bytes, 'x.pt')).toThrow(invalid(message));
  });

  test('rows of no size, however many they are said to be', () => {
    const bytes = withEntry('upstream-lists', 'data.pkl', (pickle) =>
      replaceFirst(pickle, '(K\x01K\x02K\x07K\x10t', '(K\x01K\x02K\x07K\x00t'),
    );
    expect(() => parseCheckpoint(bytes, 'x.pt')).toThrow(invalid(/tensors \[1,2,7,0\] have rows of no size/));
  });

  test('layers that share their numbers', () => {
    // The second storage is named like the first one, which is of the same size.
    const bytes = withEntry('upstream-lists', 'data.pkl', (pickle) => replaceFirst(pickle, 'X\x01\0\0\x001q', 'X\x01\0\0\x000q'));
    expect(() => parseCheckpoint(bytes, 'x.pt')).toThrow(invalid(/several tensors share the same numbers/));
  });

  test('big endian numbers', () => {
    const bytes = withEntry('upstream-lists', 'byteorder', (order) => order.write('bigend'));
    expect(() => parseCheckpoint(bytes, 'x.pt')).toThrow(invalid(/big endian/));
  });
});

describe('whatever is broken', () => {
  const NAMES = ['upstream-frozen1', 'upstream-frozen0', 'upstream-fixed', 'upstream-lists', 'evil'];

  test.each(NAMES)('%s is refused where it is cut', (name) => {
    const bytes = readFileSync(pathOf(name));
    for (let length = 0; length < bytes.length; length++) expect(attempt(bytes.subarray(0, length))).toBe('refused');
  });

  test.each(NAMES)('%s with bytes changed is read or refused, never more', (name) => {
    const bytes = readFileSync(pathOf(name));
    const random = new Random(7);
    const outcomes = { read: 0, refused: 0 };
    for (let round = 0; round < 800; round++) outcomes[attempt(damaged(bytes, [[0, bytes.length]], random))]++;
    expect(outcomes.refused).toBeGreaterThan(300);
  });

  test.each(NAMES)('%s with another program in its pickle is read or refused, never more', (name) => {
    const random = new Random(9);
    const outcomes = { read: 0, refused: 0 };
    for (let round = 0; round < 1000; round++) {
      const bytes = withEntry(name, 'data.pkl', (pickle) => pickle.set(damaged(pickle, [[0, pickle.length]], random)));
      outcomes[attempt(bytes)]++;
    }
    expect(outcomes.refused).toBeGreaterThan(300);
  });
});

function attempt(bytes: Uint8Array): 'read' | 'refused' {
  try {
    parseCheckpoint(bytes, 'x.pt');
    return 'read';
  } catch (error) {
    if (CartridgesError.is(error) && error.code === 'INVALID_CARTRIDGE') return 'refused';
    throw error;
  }
}

/** A golden file with the content of one entry changed in place, and the checksum that belongs to it. */
function withEntry(name: string, entry: string, change: (content: Buffer) => void): Buffer {
  const bytes = readFileSync(pathOf(name));
  const found = readZip(bytes, name).get(`${name}/${entry}`)!;
  const content = Buffer.from(found.buffer, found.byteOffset, found.byteLength);
  const checksum = u32(crc32(content));
  change(content);
  // Behind the data of all entries only the directory names it.
  u32(crc32(content)).copy(bytes, bytes.lastIndexOf(checksum));
  return bytes;
}

function u32(value: number): Buffer {
  return Buffer.from(Uint32Array.of(value).buffer);
}

function replaceFirst(bytes: Buffer, from: string, to: string): void {
  const at = bytes.indexOf(from, 0, 'latin1');
  expect(at).toBeGreaterThanOrEqual(0);
  bytes.write(to, at, 'latin1');
}
