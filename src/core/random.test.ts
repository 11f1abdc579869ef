import { expect, it } from 'vitest';
import { Random, uniformAt } from './random.js';

it('gives the numbers of xoshiro128**', () => {
  const random = new Random([1, 2, 3, 4]);
  expect(Array.from({ length: 4 }, () => random.next())).toEqual([11520, 0, 5927040, 70819200]);
});

it('goes on from its state, and leaves a fork alone', () => {
  const random = new Random(7);
  const { state } = random;
  const numbers = [random.next(), random.next()];
  const again = new Random(state);
  again.fork('chunks').next();
  expect([again.next(), again.next()]).toEqual(numbers);
  expect(random.fork('chunks').next()).not.toBe(random.fork('seeds').next());
});

it('has a uniform number for every seed and index', () => {
  const shares = new Array(10).fill(0);
  let products = 0;
  const [seeds, indices] = [100, 1000];
  for (let seed = 0; seed < seeds; seed++) {
    for (let index = 0; index < indices; index++) {
      const number = uniformAt(seed, index);
      shares[Math.floor(number * 10)]! += 1 / (seeds * indices);
      products += ((number - 0.5) * (uniformAt(seed + 1, index) - 0.5) + (number - 0.5) * (uniformAt(seed, index + 1) - 0.5)) * 6;
    }
  }
  // Of both, five standard deviations.
  for (const share of shares) expect(Math.abs(share - 0.1)).toBeLessThan((5 * 0.3) / Math.sqrt(seeds * indices));
  expect(Math.abs(products / (seeds * indices))).toBeLessThan(5 / Math.sqrt(seeds * indices));
  expect(uniformAt(3, 5)).toBe(uniformAt(3, 5));
});
