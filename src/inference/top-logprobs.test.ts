import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Random } from '../core/random.js';
import { sumAbove, sumOfExponentials } from './log-sum-exp.js';
import { TopCandidates, toTopLogprobs } from './top-logprobs.js';

const logits = fc.float32Array({ minLength: 1, maxLength: 300, min: -40, max: 40, noNaN: true });
const withTies = fc
  .array(fc.integer({ min: -3, max: 3 }), { minLength: 1, maxLength: 60 })
  .map((list) => Float32Array.from(list));

function sortedIds(values: Float32Array): number[] {
  return [...values.keys()].sort((a, b) => values[b]! - values[a]! || a - b);
}

/** More blocks than candidates, few of which have one. */
const long = fc
  .record({ length: fc.integer({ min: 1, max: 5000 }), seed: fc.integer({ min: 1, max: 1e9 }), steps: fc.constantFrom(5, 1e6) })
  .map(({ length, seed, steps }) => {
    const random = new Random(seed);
    return Float32Array.from({ length }, () => Math.floor(random.uniform() * steps) / 1e4);
  });

it('selects what a full sort would, ties to the lower id, with the arrays of an earlier call', () => {
  const candidates = new TopCandidates();
  fc.assert(
    fc.property(fc.oneof(logits, withTies, long), fc.integer({ min: 1, max: 40 }), (values, k) => {
      candidates.select(values, k);
      const expected = sortedIds(values).slice(0, k);
      expect([...candidates.ids.subarray(0, candidates.count)]).toEqual(expected);
      expect([...candidates.logits.subarray(0, candidates.count)]).toEqual(expected.map((id) => values[id]));
    }),
  );
});

it('passes over what is not a number', () => {
  const candidates = new TopCandidates();
  candidates.select(Float32Array.of(Number.NaN, 1, Number.NaN, 3), 3);
  expect([...candidates.ids.subarray(0, candidates.count)]).toEqual([3, 1]);
  candidates.select(Float32Array.of(Number.NaN), 1);
  expect(candidates.count).toBe(0);
  const values = new Float32Array(1000).fill(Number.NaN);
  values.set([2, Number.NEGATIVE_INFINITY, 5], 500);
  candidates.select(values, 2);
  expect([...candidates.ids.subarray(0, candidates.count)]).toEqual([502, 500]);
});

it('gives log-probs of the full softmax to f32 resolution', () => {
  const candidates = new TopCandidates();
  fc.assert(
    fc.property(logits, (values) => {
      candidates.select(values, 5);
      const best = candidates.logits[0]!;
      const top = toTopLogprobs(candidates, 5, candidates.logSumExp());
      const exact = Math.log(values.reduce((sum, value) => sum + Math.exp(value - best), 0));
      top.tokenIds.forEach((id, index) => {
        expect(Math.abs(top.logprobs[index]! - (values[id]! - best - exact))).toBeLessThan(1e-5);
      });
    }),
  );
});

it('sums the exponentials of scaled values, and shows a value that is no number', () => {
  const values = Float32Array.of(1, -2, 3, 0.5);
  const expected = values.reduce((sum, value) => sum + Math.exp((value - 3) * 2.5), 0);
  expect(sumOfExponentials(values, 3, 2.5)).toBeCloseTo(expected, 7);
  expect(sumOfExponentials(Float32Array.of(1, Number.NaN), 1)).toBeNaN();
  expect(sumAbove(0.5, values, 3, 2.5)).toBeCloseTo(1 + Math.exp(-5), 7);
});
