import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { goldenCartridge, randomCartridge } from '../../test/support/cartridges.js';
import { readGolden } from '../../test/support/golden.js';
import { CartridgesError } from '../core/errors.js';
import { Random } from '../core/random.js';
import { loadEngine } from '../native/engine.js';
import { GgmlType } from '../native/ggml.js';
import { decodeFloats, encodeFloats, type FloatType } from './float-conversion.js';
import { buildStateBlob, parseStateBlob } from './state-blob.js';

const TYPES: FloatType[] = ['f32', 'f16', 'bf16'];
const CACHE_TYPES: Record<FloatType, number> = { f32: GgmlType.F32, f16: GgmlType.F16, bf16: GgmlType.BF16 };
const PLAIN = { keyType: 'f32', valueType: 'f32', valuesTransposed: false, streams: 1 } as const;
const SIZES = { layers: 2, rowValues: 8 };

/** The words of a blob, the first 24 bytes and cells as integers. */
function words(blob: Buffer, from: number, count: number): number[] {
  return Array.from({ length: count }, (_, index) => blob.readUInt32LE(from + 4 * index));
}

describe('the layout', () => {
  const cartridge = randomCartridge(3);
  const blob = buildStateBlob(cartridge, { ...PLAIN, keyType: 'f16' });

  test('head, labels and layer heads stand where libllama reads them', () => {
    expect(words(blob, 0, 4)).toEqual([0xaf143cd8, 0, 1, 3]);
    expect(words(blob, 16, 9)).toEqual([0, 1, 0, 1, 1, 0, 2, 1, 0]);
    expect(words(blob, 52, 2)).toEqual([0, 2]);
    expect(words(blob, 60, 3)).toEqual([1, 16, 0]);
    expect(blob.subarray(72, 120)).toEqual(Buffer.from(encodeFloats(cartridge.keys[0]!, 'f16')));
    expect(words(blob, 180, 3)).toEqual([0, 32, 0]);
    expect(blob.readFloatLE(192 + 4 * 5)).toBe(cartridge.values[0]![5]);
    expect(blob.length).toBe(24 + 12 * 3 + 2 * (12 + 3 * 16) + 2 * (12 + 3 * 32));
  });

  test('transposed values are columns behind another head', () => {
    const turned = buildStateBlob(cartridge, { ...PLAIN, valueType: 'bf16', valuesTransposed: true });
    const valuesAt = 24 + 36 + 2 * (12 + 96);
    expect(words(turned, 52, 1)).toEqual([1]);
    expect(words(turned, valuesAt, 3)).toEqual([30, 2, 8]);
    const stored = decodeFloats(turned.subarray(valuesAt + 12, valuesAt + 12 + 48), 'bf16');
    const rounded = decodeFloats(encodeFloats(cartridge.values[0]!, 'bf16'), 'bf16');
    expect([stored[0], stored[1], stored[2], stored[3]]).toEqual([rounded[0], rounded[8], rounded[16], rounded[1]]);
  });
});

test('what is built is parsed, for every type and order', () => {
  const settings = fc.record({
    keyType: fc.constantFrom(...TYPES),
    valueType: fc.constantFrom(...TYPES),
    valuesTransposed: fc.boolean(),
    streams: fc.constant(1 as const),
  });
  fc.assert(
    fc.property(settings, fc.integer({ min: 1, max: 20 }), (chosen, tokenCount) => {
      const cartridge = randomCartridge(tokenCount);
      const parsed = parseStateBlob(buildStateBlob(cartridge, chosen), SIZES);
      const rounded = (layers: Float32Array[], type: FloatType) =>
        layers.map((layer) => decodeFloats(encodeFloats(layer, type), type));
      expect(parsed).toEqual({
        ...chosen,
        tokenCount,
        positions: Int32Array.from({ length: tokenCount }, (_, position) => position),
        keys: rounded(cartridge.keys, chosen.keyType),
        values: rounded(cartridge.values, chosen.valueType),
      });
    }),
    { numRuns: 60, seed: 1 },
  );
});

test('the sequence of a cache with several streams is found among empty ones', () => {
  const unified = buildStateBlob(randomCartridge(3), PLAIN);
  const stream = (...counts: number[]) => Buffer.from(Uint32Array.from(counts).buffer);
  const blob = Buffer.concat([unified.subarray(0, 8), stream(4, 0, 0), unified.subarray(12), stream(0)]);
  expect(parseStateBlob(blob, SIZES)).toMatchObject({ streams: 4, tokenCount: 3 });
});

test('numbers that the cache type cannot hold are not built into a blob', () => {
  const cartridge = randomCartridge(3);
  cartridge.values[1]![0] = 70_000;
  expect(() => buildStateBlob(cartridge, { ...PLAIN, valueType: 'f16' })).toThrow(/values of layer 1 are too large for f16/);
  cartridge.values[1]![0] = Number.NaN;
  expect(() => buildStateBlob(cartridge, PLAIN)).toThrow(expect.objectContaining({ code: 'INVALID_CARTRIDGE' }));
});

describe('parsing refuses', () => {
  test.each<[string, number, number, RegExp]>([
    ['another magic number', 0, 1, /magic number/],
    ['no streams', 8, 0, /streams: 0/],
    ['too many streams', 8, 257, /streams: 257/],
    ['no cells', 12, 0, /holds no cells/],
    ['2³¹ cells', 12, 2 ** 31, /cells: 2147483648/],
    ['more cells than bytes', 12, 1 << 20, /ends after/],
    ['a cell of two sequences', 20, 2, /sequences of a cell: 2/],
    ['half a transposition', 52, 2, /transposition: 2/],
    ['other layers', 56, 3, /layers: 3/],
    ['a quantised cache', 60, 8, /ggml type 8/],
    ['other rows', 64, 64, /rows are not 8 values of f32/],
    ['rows beyond 32 bits', 68, 1, /rows are not 8 values of f32/],
  ])('%s', (_name, offset, word, reason) => {
    const blob = buildStateBlob(randomCartridge(3), PLAIN);
    blob.writeUInt32LE(word, offset);
    expect(() => parseStateBlob(blob, SIZES)).toThrow(reason);
  });

  test('bytes too many', () => {
    const blob = buildStateBlob(randomCartridge(3), PLAIN);
    expect(() => parseStateBlob(Buffer.concat([blob, Buffer.alloc(1)]), SIZES)).toThrow(/1 bytes follow/);
  });

  test('whatever else is broken, with an error of ours', () => {
    const blob = buildStateBlob(randomCartridge(3), { ...PLAIN, valuesTransposed: true });
    const random = new Random(5);
    for (let round = 0; round < 3000; round++) {
      const bytes = Buffer.from(blob);
      const headBytes = 24 + 36 + 12;
      for (let change = 0; change <= random.integer(3); change++) bytes[random.integer(headBytes)] = random.integer(256);
      try {
        parseStateBlob(random.integer(3) === 0 ? bytes.subarray(0, random.integer(bytes.length)) : bytes, SIZES);
      } catch (error) {
        if (!CartridgesError.is(error)) throw error;
      }
    }
  });
});

describe.each(TYPES)('libllama with a cache of %s', (type) => {
  test.each([true, false])('takes a cartridge and gives it back (flash attention: %s)', (flashAttention) => {
    const golden = readGolden('tiny-llama');
    const cartridge = goldenCartridge(golden, 'cartridge', golden.cartridge.rows);
    const { llama } = loadEngine();
    const model = llama.llama_model_load_from_file(golden.path, { ...llama.llama_model_default_params(), n_gpu_layers: 0 })!;
    const context = llama.llama_init_from_model(model, {
      ...llama.llama_context_default_params(),
      ...{ n_ctx: 256, n_batch: 32, n_ubatch: 32, n_seq_max: 4, kv_unified: true, n_threads: 1, n_threads_batch: 1 },
      ...{ type_k: CACHE_TYPES[type], type_v: CACHE_TYPES[type], flash_attn_type: flashAttention ? 1 : 0 },
    })!;
    const blob = buildStateBlob(cartridge, { keyType: type, valueType: type, valuesTransposed: !flashAttention, streams: 1 });
    expect(Number(llama.llama_state_seq_set_data(context, blob, blob.length, 2))).toBe(blob.length);
    expect(llama.llama_memory_seq_pos_max(llama.llama_get_memory(context), 2)).toBe(golden.cartridge.rows - 1);
    const back = Buffer.alloc(Number(llama.llama_state_seq_get_size(context, 2)));
    llama.llama_state_seq_get_data(context, back, back.length, 2);
    const sizes = { layers: golden.model.layers, rowValues: golden.model.kv_heads * golden.model.head_dim };
    expect(parseStateBlob(back, sizes)).toEqual(parseStateBlob(blob, sizes));
    llama.llama_free(context);
    llama.llama_model_free(model);
  });
});
