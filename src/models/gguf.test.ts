import { mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { type GgufParts, ggufBytes, type MetadataEntry } from '../../test/support/gguf-bytes.js';
import { GOLDEN_FOLDER, goldenNames, readGolden } from '../../test/support/golden.js';
import { CartridgesError } from '../core/errors.js';
import { Random } from '../core/random.js';
import { readGguf } from './gguf.js';
import { readModelConfig } from './model-config.js';

const POCKET = join(import.meta.dirname, '..', '..', 'models', 'pocket', 'pocket.gguf');
const [U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64] = Array.from({ length: 13 }, (_, type) => type) as [
  number,
  number,
  number,
  number,
  number,
  number,
  number,
  number,
  number,
  number,
  number,
  number,
  number,
];

const folder = mkdtempSync(join(tmpdir(), 'gguf-'));
afterAll(() => rmSync(folder, { recursive: true }));

function writeModel(bytes: Uint8Array): string {
  const path = join(folder, 'model.gguf');
  writeFileSync(path, bytes);
  return path;
}

function read(parts: GgufParts) {
  return readGguf(writeModel(ggufBytes(parts)));
}

function messageOf(parts: GgufParts | Uint8Array): string {
  const path = writeModel(parts instanceof Uint8Array ? parts : ggufBytes(parts));
  try {
    readGguf(path);
  } catch (error) {
    if (CartridgesError.is(error)) return `${error.code}: ${error.message.split(': ').slice(1).join(': ')}`;
    throw error;
  }
  return 'read';
}

/** A header that is right but for the tensors given, with 1024 bytes of data. */
function withTensor(tensor: Partial<NonNullable<GgufParts['tensors']>[number]>): GgufParts {
  return { tensors: [{ name: 'a', shape: [32], type: 0, offset: 0, ...tensor }], dataBytes: 1024 };
}

describe.each(goldenNames())('%s', (name) => {
  const { model, path } = readGolden(name);

  test('has the sizes of the golden numbers', () => {
    const config = readModelConfig(readGguf(path));
    expect({ ...config, ropeBase: Math.round(config.ropeBase) }).toMatchObject({
      architecture: model.architecture,
      layers: model.layers,
      embedding: model.embedding,
      heads: model.heads,
      kvHeads: model.kv_heads,
      headDimension: model.head_dim,
      feedForward: model.feed_forward,
      vocabularySize: model.vocab,
      ropeBase: model.rope_base,
      tiedEmbeddings: model.tied_embeddings,
    });
  });

  test('ends with its last tensor', () => {
    const { tensors, fileSize, alignment } = readGguf(path);
    const end = Math.max(...[...tensors.values()].map(({ offset, byteLength }) => offset + byteLength));
    expect(Math.ceil(end / alignment) * alignment).toBe(Math.ceil(fileSize / alignment) * alignment);
  });
});

test('reads the pocket model', () => {
  const gguf = readGguf(POCKET);
  expect(gguf.version).toBe(3);
  expect(gguf.string('general.name')).toBe('Pocket');
  expect(gguf.strings('tokenizer.ggml.tokens').slice(0, 3)).toEqual(['<|endoftext|>', '<|im_start|>', '<|im_end|>']);
  expect(gguf.numbers('tokenizer.ggml.token_type')).toHaveLength(3161);
  expect(gguf.boolean('tokenizer.ggml.add_bos_token')).toBe(false);
  expect(gguf.tensors.get('token_embd.weight')).toMatchObject({ typeName: 'Q8_0', shape: [256, 3161], byteLength: 859792 });
});

describe('metadata', () => {
  test.each<[string, MetadataEntry, unknown]>([
    ['u8', ['k', U8, 200], 200],
    ['i8', ['k', I8, -3], -3],
    ['u16', ['k', U16, 65535], 65535],
    ['i16', ['k', I16, -300], -300],
    ['u32', ['k', U32, 4294967295], 4294967295],
    ['i32', ['k', I32, -7], -7],
    ['f32', ['k', F32, 0.5], 0.5],
    ['bool', ['k', BOOL, true], true],
    ['string', ['k', STRING, 'größer 漢字'], 'größer 漢字'],
    ['u64', ['k', U64, 2n ** 53n - 1n], 2 ** 53 - 1],
    ['u64 beyond numbers', ['k', U64, 2n ** 63n], 2n ** 63n],
    ['i64', ['k', I64, -5n], -5],
    ['f64', ['k', F64, 1 / 3], 1 / 3],
    ['numbers', ['k', ARRAY, { type: I32, values: [1, -2, 3] }], Int32Array.of(1, -2, 3)],
    ['texts', ['k', ARRAY, { type: STRING, values: ['a', ''] }], ['a', '']],
    ['truths', ['k', ARRAY, { type: BOOL, values: [true, false] }], [true, false]],
    ['an empty array', ['k', ARRAY, { type: F32, values: [] }], new Float32Array()],
  ])('%s', (_name, entry, expected) => {
    expect(read({ metadata: [entry] }).metadata.get('k')).toEqual(expected);
  });

  test('getters name the file and the key that is missing or of another kind', () => {
    const gguf = read({ metadata: [['k', STRING, 'text']] });
    expect(gguf.number('none', 7)).toBe(7);
    expect(() => gguf.number('none')).toThrow(/model\.gguf: the key none is missing/);
    expect(() => gguf.number('k')).toThrow(/model\.gguf: the key k does not hold a number/);
    expect(() => gguf.numbers('k')).toThrow(/does not hold numbers/);
    expect(() => gguf.strings('k')).toThrow(/does not hold texts/);
    expect(() => gguf.boolean('k')).toThrow(/does not hold true or false/);
  });

  test('150,000 tokens and 280,000 merges are read in a moment', () => {
    const values = Array.from({ length: 430_000 }, (_, index) => `Ġtoken ${index}`);
    const path = writeModel(
      ggufBytes({
        metadata: [
          ['tokenizer.ggml.tokens', ARRAY, { type: STRING, values: values.slice(0, 150_000) }],
          ['tokenizer.ggml.merges', ARRAY, { type: STRING, values: values.slice(150_000) }],
        ],
      }),
    );
    // Processor time, so that a busy machine does not fail it. Measured: 170 ms, wall time too when the machine is free.
    const spentMs = [1, 2, 3].map(() => {
      const start = process.cpuUsage();
      expect(readGguf(path).strings('tokenizer.ggml.merges').at(-1)).toBe('Ġtoken 429999');
      const { user, system } = process.cpuUsage(start);
      return (user + system) / 1000;
    });
    expect(Math.min(...spentMs)).toBeLessThan(500);
  });
});

describe('refuses', () => {
  const twice = { type: STRING, values: ['a', 'b', 'a'] };
  const tokens: MetadataEntry = ['tokenizer.ggml.tokens', ARRAY, { type: STRING, values: ['a', 'b'] }];

  test.each<[string, GgufParts, RegExp]>([
    ['another kind of file', { magic: 'PK\x03\x04' }, /does not begin with the letters GGUF/],
    ['big endian', { version: 0x03000000 }, /big endian/],
    ['version 1', { version: 1 }, /version 1; versions 2 and 3/],
    ['version 4', { version: 4 }, /version 4/],
    ['too many tensors', { tensorCount: 1n << 20n }, /declares 1048576 tensors/],
    ['a negative count', { keyCount: 2n ** 64n - 1n }, /the number of metadata keys is out of all proportion/],
    ['more keys than bytes', { keyCount: 5n, alignment: 8 }, /ends inside its header/],
    ['a nameless key', { metadata: [['', U8, 1]] }, /key 1 has no name/],
    [
      'a key twice',
      {
        metadata: [
          ['k', U8, 1],
          ['k', U8, 1],
        ],
      },
      /the key k is there twice/,
    ],
    ['an unknown value type', { metadata: [['k', 13, 1]] }, /k has values of the unknown type 13/],
    ['an array of arrays', { metadata: [['k', ARRAY, { type: ARRAY, values: [] }]] }, /the unknown type 9/],
    ['an endless array', { metadata: [['k', ARRAY, { type: U8, values: [], length: 1n << 40n }]] }, /has 1099511627776 elements/],
    [
      'an array longer than the file',
      { metadata: [['k', ARRAY, { type: U64, values: [], length: 1000n }]] },
      /ends inside its header/,
    ],
    [
      'texts beyond the file',
      { metadata: [['k', ARRAY, { type: STRING, values: [], length: 100n }]] },
      /more than the file can hold/,
    ],
    ['an alignment of another type', { metadata: [['general.alignment', U64, 32]] }, /alignment is not a 32-bit number/],
    ['an odd alignment', { metadata: [['general.alignment', U32, 48]] }, /alignment is 48/],
    ['no alignment', { metadata: [['general.alignment', U32, 0]] }, /alignment is 0/],
    ['a tensor without name', withTensor({ name: '' }), /tensor 1 has no name/],
    ['a long tensor name', withTensor({ name: 'n'.repeat(64) }), /64 bytes long, more than 63/],
    ['no dimensions', withTensor({ shape: [] }), /a has 0 dimensions/],
    ['five dimensions', withTensor({ shape: [1, 1, 1, 1, 1] }), /a has 5 dimensions/],
    ['an extent of zero', withTensor({ shape: [32, 0] }), /a is empty/],
    ['a shape that overflows', withTensor({ shape: [2n ** 40n, 2n ** 40n] }), /larger than the file/],
    ['a negative extent', withTensor({ shape: [2n ** 64n - 1n] }), /an extent of a is out of all proportion/],
    ['a withdrawn type', withTensor({ type: 31 }), /unknown type 31/],
    ['half a block', withTensor({ type: 8, shape: [48] }), /rows of 48 values .* not whole blocks of Q8_0/],
    ['an offset', withTensor({ offset: 32 }), /begins at 32, expected 0/],
    ['a tensor beyond the end', withTensor({ shape: [257] }), /runs beyond the end/],
    [
      'overlapping tensors',
      { tensors: [0, 32].map((offset) => ({ name: `t${offset}`, shape: [32], type: 0, offset })), dataBytes: 1024 },
      /t32 begins at 32, expected 128/,
    ],
    [
      'a tensor twice',
      { tensors: [0, 128].map((offset) => ({ name: 'a', shape: [32], type: 0, offset })), dataBytes: 1024 },
      /the tensor a is there twice/,
    ],
    ['a token twice', { metadata: [['tokenizer.ggml.tokens', ARRAY, twice]] }, /has the token "a" twice/],
    [
      'a token that is another up to a null byte',
      { metadata: [['tokenizer.ggml.tokens', ARRAY, { type: STRING, values: ['a', 'a\0b'] }]] },
      /has the token "a" twice/,
    ],
    [
      'tokens that are numbers',
      { metadata: [['tokenizer.ggml.tokens', ARRAY, { type: U8, values: [1] }]] },
      /does not hold texts/,
    ],
    ['tokens that are one text', { metadata: [['tokenizer.ggml.tokens', STRING, 'a']] }, /does not hold texts/],
    [
      'too few token types',
      { metadata: [tokens, ['tokenizer.ggml.token_type', ARRAY, { type: I32, values: [1] }]] },
      /token_type has 1 elements for 2 tokens/,
    ],
    [
      'token types of another width',
      { metadata: [tokens, ['tokenizer.ggml.token_type', ARRAY, { type: U8, values: [1, 1] }]] },
      /token_type does not hold numbers/,
    ],
  ])('%s', (_name, parts, reason) => {
    expect(messageOf(parts)).toMatch(reason);
    expect(messageOf(parts)).toMatch(/^INVALID_MODEL/);
  });

  test('one part of a split model', () => {
    expect(messageOf({ metadata: [['split.count', U16, 3]] })).toMatch(/^UNSUPPORTED_MODEL/);
  });

  test('a file that does not exist, and a folder', () => {
    expect(() => readGguf(join(folder, 'none.gguf'))).toThrow(expect.objectContaining({ code: 'FILE_NOT_FOUND' }));
    expect(() => readGguf(folder)).toThrow(expect.objectContaining({ code: 'INVALID_MODEL' }));
  });

  test('the pocket model cut anywhere', () => {
    const whole = readFileSync(POCKET);
    fc.assert(
      fc.property(fc.nat(whole.length - 1), (length) => {
        expect(messageOf(whole.subarray(0, length))).toMatch(/^INVALID_MODEL/);
      }),
      { numRuns: 100, seed: 1 },
    );
  });
});

test('a damaged header is refused or read, quickly and in bounded memory', () => {
  const source = join(GOLDEN_FOLDER, 'tiny-llama-q8_0.gguf');
  const original = readFileSync(source);
  const headerBytes = Math.min(...[...readGguf(source).tensors.values()].map(({ offset }) => offset));
  const path = writeModel(original);
  const file = openSync(path, 'r+');
  const random = new Random(7);
  const outcomes = { read: 0, refused: 0 };
  const memoryBefore = process.memoryUsage().rss;
  for (let round = 0; round < 3000; round++) {
    const places = Array.from({ length: 1 + random.integer(4) }, () => random.integer(headerBytes));
    for (const place of places) writeSync(file, Buffer.from([random.pick([0, 255, random.integer(256)])]), 0, 1, place);
    try {
      const { tensors, fileSize } = readGguf(path);
      for (const { offset, byteLength } of tensors.values()) expect(offset + byteLength).toBeLessThanOrEqual(fileSize);
      outcomes.read++;
    } catch (error) {
      if (!CartridgesError.is(error)) throw error;
      outcomes.refused++;
    }
    for (const place of places) writeSync(file, original, place, 1, place);
  }
  expect(statSync(path).size).toBe(original.length);
  expect(outcomes.read).toBeGreaterThan(100);
  expect(outcomes.refused).toBeGreaterThan(100);
  expect(process.memoryUsage().rss - memoryBefore).toBeLessThan(256 << 20);
});
