import { expect, test } from 'vitest';
import { deriveLogSumExps, pickLogits, sparseLoss, subtractShares, sumOpenRows } from './sparse-loss.js';

const CLASSES = 4;
const targets = {
  rows: 3,
  entriesPerRow: 2,
  ids: Int32Array.of(0, 3, 2, 1, 0, 1),
  weights: Float32Array.of(0.6, 0.3, 1, 0, 0, 0),
};
/** The second row's target is so unlikely that its probability is 0 in f32. */
const logits = () => Float32Array.of(1, 2, 3, 0, 300, -20, 0, 5, 1, 1, 2, 1);

function softmax(values: Float32Array): Float32Array {
  for (let row = 0; row < values.length; row += CLASSES) {
    const part = values.subarray(row, row + CLASSES);
    const largest = Math.max(...part);
    const total = part.reduce((sum, value) => sum + Math.exp(value - largest), 0);
    part.forEach((value, index) => {
      part[index] = Math.exp(value - largest) / total;
    });
  }
  return values;
}

test('the loss is exact also where a probability is 0', () => {
  const values = logits();
  const picked = { entries: new Float32Array(6), logSumExps: new Float64Array(3) };
  pickLogits(values, CLASSES, targets, picked);
  expect(deriveLogSumExps(softmax(values), CLASSES, targets, picked)).toBe(false);
  expect([...picked.logSumExps].map(Number.isNaN)).toEqual([false, true, false]);
  sumOpenRows(logits(), CLASSES, targets, picked);
  const logSumExp = Math.log(Math.exp(1) + Math.exp(2) + Math.exp(3) + 1);
  expect(sparseLoss(targets, picked)).toBeCloseTo(0.6 * (logSumExp - 1) + 0.3 * logSumExp + 300, 4);
});

test('shares are subtracted from probabilities, and rows without a weight keep theirs', () => {
  const values = softmax(logits());
  const expected = [...values];
  const sums = new Float32Array(3).fill(7);
  subtractShares(values, CLASSES, targets, sums);
  [0.9, 1, 0].forEach((sum, row) => {
    expect(sums[row]).toBeCloseTo(sum, 6);
  });
  expected[0]! -= 0.6 / 0.9;
  expected[3]! -= 0.3 / 0.9;
  expected[CLASSES + 2]! -= 1;
  expected.forEach((value, index) => {
    expect(values[index]).toBeCloseTo(value, 6);
  });
});
