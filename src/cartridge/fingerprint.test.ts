import { describe, expect, test } from 'vitest';
import { randomCartridge } from '../../test/support/cartridges.js';
import { readGolden } from '../../test/support/golden.js';
import { GgufFile, type GgufValue, readGguf } from '../models/gguf.js';
import type { ModelFingerprint } from './cartridge.js';
import { assertUsableWith, compareFingerprints, fingerprintOf } from './fingerprint.js';

const { model } = randomCartridge(1);
const FIELDS = Object.keys(model) as (keyof ModelFingerprint)[];
const WEIGHTS_HASH = 'b'.repeat(64);

function changed(...fields: (keyof ModelFingerprint)[]): ModelFingerprint {
  const change = (value: string | number) => (typeof value === 'number' ? value + 1 : `${'f'.repeat(12)}${value}`);
  return { ...model, ...Object.fromEntries(fields.map((field) => [field, change(model[field])])) };
}

function goldenGguf(name: string): GgufFile {
  return readGguf(readGolden(name).path);
}

function withMetadata(gguf: GgufFile, ...entries: [string, GgufValue][]): GgufFile {
  return new GgufFile({ ...gguf, metadata: new Map([...gguf.metadata, ...entries]) });
}

describe.each(FIELDS)('%s', (field) => {
  test('is compared, named with both values and refused', () => {
    const other = changed(field);
    expect(compareFingerprints(model, other)).toEqual([{ field, expected: model[field], found: other[field] }]);
    const isHash = field.endsWith('Hash');
    const [trained, loaded] = [model[field], other[field]].map((value) => (isHash ? String(value).slice(0, 12) : `${value}`));
    expect(() => assertUsableWith({ model }, other, { allowQuantization: false })).toThrow(
      expect.objectContaining({
        code: 'CARTRIDGE_MISMATCH',
        message: expect.stringMatching(new RegExp(`\\(${field}\\) is ${trained}, .* ${loaded}$`)),
      }),
    );
  });
});

describe('other weights alone', () => {
  const requantised = changed('quantization', 'weightsHash');

  test('can be allowed, and are reported', () => {
    expect(assertUsableWith({ model }, requantised, { allowQuantization: true })).toEqual({ quantizationDiffers: true });
    expect(assertUsableWith({ model }, model, { allowQuantization: true })).toEqual({ quantizationDiffers: false });
  });

  test('the hint says how', () => {
    const hint = expect.stringContaining('--allow-quantization');
    expect(() => assertUsableWith({ model }, requantised, { allowQuantization: false })).toThrow(
      expect.objectContaining({ hint }),
    );
  });

  test('do not cover another field, and then the hint does not speak of it', () => {
    const other = changed('ropeBase', 'quantization', 'weightsHash');
    const hint = expect.not.stringContaining('--allow-quantization');
    expect(() => assertUsableWith({ model }, other, { allowQuantization: true })).toThrow(expect.objectContaining({ hint }));
  });
});

describe('the fingerprint of a file', () => {
  test('has the sizes of the model', () => {
    expect(fingerprintOf(goldenGguf('tiny-qwen3'), WEIGHTS_HASH)).toMatchObject({
      architecture: 'qwen3',
      layers: 2,
      kvHeads: 2,
      headDimension: 32,
      embedding: 64,
      vocabularySize: 512,
      quantization: 'F32',
      weightsHash: WEIGHTS_HASH,
    });
  });

  test('of a requantised model differs in its weights only', () => {
    const [full, quantised] = ['tiny-llama', 'tiny-llama-q8_0'].map((name) => fingerprintOf(goldenGguf(name), name));
    const fields = compareFingerprints(full!, quantised!).map(({ field }) => field);
    expect(fields).toEqual(['quantization', 'weightsHash']);
    expect(quantised!.quantization).toBe('Q8_0');
  });

  test('sees llama-3 frequency factors', () => {
    const hashes = ['tiny-llama', 'tiny-llama3-rope'].map((name) => fingerprintOf(goldenGguf(name), '').ropeScalingHash);
    expect(hashes[0]).not.toBe(hashes[1]);
  });

  test.each<[string, GgufValue]>([
    ['tokenizer.ggml.pre', 'other'],
    ['tokenizer.ggml.merges', ['a b']],
    ['tokenizer.ggml.token_type', new Int32Array(512)],
    ['tokenizer.ggml.tokens', Array.from({ length: 512 }, (_, id) => `${id}`)],
    ['tokenizer.ggml.eos_token_id', 5],
  ])('another %s is another tokenizer', (key, value) => {
    const gguf = goldenGguf('tiny-llama');
    const [before, after] = [gguf, withMetadata(gguf, [key, value])].map((file) => fingerprintOf(file, ''));
    expect(compareFingerprints(before!, after!).map(({ field }) => field)).toEqual(['tokenizerHash']);
  });

  test('another padding token is not', () => {
    const gguf = goldenGguf('tiny-llama');
    const other = withMetadata(gguf, ['tokenizer.ggml.padding_token_id', 77], ['general.name', 'a copy']);
    expect(fingerprintOf(other, '')).toEqual(fingerprintOf(gguf, ''));
  });
});
