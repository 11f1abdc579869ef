import { expect, it } from 'vitest';
import { packFingerprint } from './fingerprint.js';

const token = (id: number, logprob: number, top: [number, number][]) => ({
  token: id,
  text: '',
  logprob,
  topLogprobs: { tokenIds: Int32Array.from(top.map(([id]) => id)), logprobs: Float32Array.from(top.map(([, value]) => value)) },
});

it('packs little-endian arrays by rows', () => {
  const rows = [
    token(258, -0.5, [
      [258, -0.5],
      [1, -2],
    ]),
    token(1, -2, [
      [7, -0.25],
      [1, -2],
    ]),
  ];
  expect(JSON.parse(packFingerprint([rows, []], true, 2))).toEqual({
    completion_ids: [[258, 1], []],
    packed_chosen_logprobs: ['AAAAvwAAAMA=', ''],
    packed_topk_indices: ['AgEAAAEAAAAHAAAAAQAAAA==', ''],
    packed_topk_logprobs: ['AAAAvwAAAMAAAIC+AAAAwA==', ''],
  });
});

it('has the ids alone when nothing else is asked for', () => {
  const bare = { completion_ids: [[5]], packed_chosen_logprobs: null, packed_topk_indices: null, packed_topk_logprobs: null };
  expect(JSON.parse(packFingerprint([[{ token: 5, text: 'x' }]], false, 0))).toEqual(bare);
  expect(JSON.parse(packFingerprint([[token(5, -1, [])]], true, 0))).toEqual({ ...bare, packed_chosen_logprobs: ['AACAvw=='] });
});
