import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mean, median, percentile, perplexity, share } from './metrics.js';

const numbers = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), { minLength: 1 });

describe('metrics', () => {
  it('are null of nothing', () => {
    expect([mean([]), median([]), percentile([], 0.9), share([]), perplexity(0, 0)]).toEqual([null, null, null, null, null]);
  });

  it('take the middle', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(mean([1, 2, 6])).toBe(3);
    expect(share([true, false, false, true])).toBe(0.5);
  });

  it('interpolate between neighbours', () => {
    expect(percentile([10, 20, 30, 40, 50], 0.9)).toBeCloseTo(46);
    expect(percentile([7, 3], 0)).toBe(3);
    expect(percentile([7, 3], 1)).toBe(7);
  });

  it('leave their input as it is and stay within it', () => {
    fc.assert(
      fc.property(numbers, fc.double({ min: 0, max: 1, noNaN: true }), (values, at) => {
        const before = [...values];
        const result = percentile(values, at) as number;
        expect(values).toEqual(before);
        expect(result).toBeGreaterThanOrEqual(Math.min(...values) - 1e-6);
        expect(result).toBeLessThanOrEqual(Math.max(...values) + 1e-6);
      }),
    );
  });

  it('give the perplexity of a uniform guess its number of choices', () => {
    expect(perplexity(5 * Math.log(512), 5)).toBeCloseTo(512);
  });
});
