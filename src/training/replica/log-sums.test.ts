import { expect, test } from 'vitest';
import { addLargest, addLogs, areKnown } from './log-sums.js';

test('sums are known as long as an f32 holds them and what they are made of', () => {
  expect(areKnown(Float32Array.of(1, 1e-20, 1e20))).toBe(true);
  for (const sum of [0, 1e-38, 1e35, Number.POSITIVE_INFINITY, Number.NaN]) expect(areKnown(Float32Array.of(1, sum))).toBe(false);
});

test('logarithms and largest scores of queries are added in their places', () => {
  const values = Float32Array.of(9, 1, 2, 9);
  addLogs(values, 1, Float32Array.of(Math.E, 1));
  expect(values).toEqual(Float32Array.of(9, 2, 2, 9));
  addLargest(values, 1, Float32Array.of(5, -4, Number.NEGATIVE_INFINITY, -3, 6, -7), 3, 2);
  expect(values).toEqual(Float32Array.of(9, 8, -1, 9));
});
