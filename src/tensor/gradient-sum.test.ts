import { afterAll, expect, test } from 'vitest';
import { openKernelThread } from '../../test/support/kernel-thread.js';
import { GradientSum } from './gradient-sum.js';
import { floatsAt } from './native-memory.js';

const COUNT = 1_003;
const PART_BYTES = 4_096;
const PARTS = 3;
const { thread, address, dispose } = openKernelThread(PARTS * PART_BYTES);
const gradientSum = new GradientSum(thread, COUNT);
afterAll(() => {
  gradientSum.dispose();
  dispose();
});

test.each([1, 2, 3])('adds up the gradients of %i workers', (workers) => {
  const addresses = Array.from({ length: workers }, (_, part) => address + BigInt(part * PART_BYTES));
  const gradients = addresses.map((address) => floatsAt(address, COUNT));
  for (const [part, gradient] of gradients.entries()) gradient.set(gradient.map((_, i) => Math.sin(i * 1.3 + part)));
  const others = gradients.slice(1).map((gradient) => gradient.slice());
  const expected = Array.from(gradients[0]!, (value, i) => others.reduce((sum, other) => sum + other[i]!, value));

  const squares = gradientSum.run(addresses);
  for (const [i, value] of expected.entries()) expect(gradients[0]![i]).toBeCloseTo(value, 6);
  expect(squares / expected.reduce((sum, value) => sum + value * value, 0)).toBeCloseTo(1, 5);
  expect(gradients.slice(1)).toEqual(others);
});
