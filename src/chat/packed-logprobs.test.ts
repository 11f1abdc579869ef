import { describe, expect, it } from 'vitest';
import { unpackLogprobs } from './packed-logprobs.js';

const base64 = (values: ArrayBufferView) => Buffer.from(values.buffer).toString('base64');
const fingerprint = (ids: Int32Array, logprobs: Float32Array) =>
  JSON.stringify({
    completion_ids: [[4, 8]],
    packed_topk_indices: [base64(ids)],
    packed_topk_logprobs: [base64(logprobs)],
  });

describe('unpackLogprobs', () => {
  it('reads a row for each token', () => {
    const { tokenIds, rows } = unpackLogprobs(
      fingerprint(Int32Array.of(4, 1, 8, 3), Float32Array.of(-0.5, -1, 0, Number.NEGATIVE_INFINITY)),
      2,
    );
    expect(tokenIds).toEqual(Int32Array.of(4, 8));
    expect(rows).toEqual([
      { tokenIds: Int32Array.of(4, 1), logprobs: Float32Array.of(-0.5, -1) },
      { tokenIds: Int32Array.of(8, 3), logprobs: Float32Array.of(0, Number.NEGATIVE_INFINITY) },
    ]);
  });

  it('reads the tokens alone when nothing is packed', () => {
    const packed = { completion_ids: [[4]], packed_topk_indices: null, packed_topk_logprobs: null };
    expect(unpackLogprobs(JSON.stringify(packed), 0)).toEqual({ tokenIds: Int32Array.of(4), rows: [] });
  });

  it.each([
    ['no JSON', 'fp_44709d6fcb'],
    ['no token ids', '{}'],
    ['too few values', fingerprint(Int32Array.of(4, 1, 8), Float32Array.of(-1, -2, -1))],
    ['a negative id', fingerprint(Int32Array.of(4, -1, 8, 3), Float32Array.of(-1, -2, -1, -2))],
    ['a probability above 1', fingerprint(Int32Array.of(4, 1, 8, 3), Float32Array.of(1, -2, -1, -2))],
    ['a row that rises', fingerprint(Int32Array.of(4, 1, 8, 3), Float32Array.of(-2, -1, -1, -2))],
    ['no number', fingerprint(Int32Array.of(4, 1, 8, 3), Float32Array.of(-1, Number.NaN, -1, -2))],
  ])('refuses %s', (_what, text) => {
    expect(() => unpackLogprobs(text, 2)).toThrow(expect.objectContaining({ code: 'SERVER_FAILED' }));
  });
});
