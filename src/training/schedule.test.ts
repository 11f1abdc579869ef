import { expect, test } from 'vitest';
import { defaultLearningRate, learningRateAt } from './schedule.js';

const settings = { learningRate: 0.02, steps: 100, warmupSteps: 10, decay: 'cosine', finalShare: 0.1 } as const;

test('rises through the warm-up, peaks after it and ends at its final share', () => {
  expect(learningRateAt(0, settings)).toBeCloseTo(0.02 / 11);
  expect(learningRateAt(10, settings)).toBeCloseTo(0.02);
  expect(learningRateAt(99, settings)).toBeCloseTo(0.002);
  const rates = Array.from({ length: 90 }, (_, index) => learningRateAt(10 + index, settings));
  expect([...rates].sort((a, b) => b - a)).toEqual(rates);
});

test('without decay the rate stays', () => {
  expect(learningRateAt(99, { ...settings, decay: 'none' })).toBe(0.02);
});

test('the default rate follows the supervised tokens of a step', () => {
  expect(defaultLearningRate(65_536)).toBeCloseTo(2e-2);
  expect(defaultLearningRate(1_024)).toBeCloseTo(2e-3);
  expect(defaultLearningRate(100)).toBeCloseTo(2e-3);
  expect(defaultLearningRate(8_192)).toBeCloseTo(Math.sqrt(2e-3 * 2e-2));
});
