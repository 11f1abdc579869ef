import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { GOLDEN_FOLDER } from '../../test/support/golden.js';
import { GgufFile, type GgufTensor, type GgufValue, readGguf } from './gguf.js';
import { readModelConfig } from './model-config.js';

const original = readGguf(join(GOLDEN_FOLDER, 'tiny-qwen3.gguf'));

function withMetadata(key: string, value: GgufValue): GgufFile {
  return new GgufFile({ ...original, metadata: new Map([...original.metadata, [key, value]]) });
}

function withTensor(name: string, change: Partial<GgufTensor>): GgufFile {
  const tensor = { ...original.tensors.get(name)!, ...change };
  return new GgufFile({ ...original, tensors: new Map([...original.tensors, [name, tensor]]) });
}

test('reads a model as it is', () => {
  expect(readModelConfig(original)).toMatchObject({ architecture: 'qwen3', traits: { headNorm: true } });
});

describe('refuses what ends the process in ggml', () => {
  test.each<[string, GgufFile, RegExp]>([
    ['a negative epsilon', withMetadata('qwen3.attention.layer_norm_rms_epsilon', -1e-5), /an epsilon of -0\.00001/],
    ['an epsilon that is no number', withMetadata('qwen3.attention.layer_norm_rms_epsilon', Number.NaN), /an epsilon of NaN/],
    ['a RoPE base of zero', withMetadata('qwen3.rope.freq_base', 0), /a RoPE base of 0/],
    ['an infinite RoPE base', withMetadata('qwen3.rope.freq_base', Number.POSITIVE_INFINITY), /a RoPE base of Infinity/],
    [
      'a norm in half precision',
      withTensor('blk.1.attn_k_norm.weight', { type: 1, typeName: 'F16' }),
      /blk\.1\.attn_k_norm\.weight is \[32\] in F16, expected \[32\] in F32/,
    ],
    ['a matrix of another shape', withTensor('blk.0.attn_q.weight', { shape: [64, 32] }), /expected \[64,128\]/],
  ])('%s', (_what, gguf, message) => {
    expect(() => readModelConfig(gguf)).toThrow(
      expect.objectContaining({ code: 'INVALID_MODEL', message: expect.stringMatching(message) }),
    );
  });
});
