import { afterAll, expect, test } from 'vitest';
import { openKernelThread } from '../../test/support/kernel-thread.js';
import { updatePlainly } from '../../test/support/plain-adam.js';
import { DEFAULT_ADAM } from './adam.js';
import { AdamKernel } from './adam-kernel.js';
import { floatsAt } from './native-memory.js';

const COUNT = 1003;
const PART_BYTES = 4096;
const { thread, address, dispose } = openKernelThread(4 * PART_BYTES);
const kernel = new AdamKernel(thread, COUNT);
afterAll(() => {
  kernel.dispose();
  dispose();
});

test('updates as the plain definition does, over many steps', () => {
  const [values, gradient, first, second] = [0n, 1n, 2n, 3n].map((part) => address + part * BigInt(PART_BYTES)) as [
    bigint,
    bigint,
    bigint,
    bigint,
  ];
  const [rows, slopes] = [floatsAt(values, COUNT), floatsAt(gradient, COUNT)];
  const expected = { values: new Float32Array(COUNT), first: new Float32Array(COUNT), second: new Float32Array(COUNT) };
  const gradients = new Float32Array(COUNT);
  for (let step = 1; step <= 20; step++) {
    // From 1e-9 to 1e3, with zeros; in every third step none at all.
    for (let i = 0; i < COUNT; i++) gradients[i] = step % 3 === 0 || i % 7 === 0 ? 0 : Math.sin(i * step) * 10 ** ((i % 13) - 9);
    slopes.set(gradients);
    const update = { settings: DEFAULT_ADAM, step, gradientScale: 0.37, learningRate: 0.02 / step };
    kernel.run({ values, gradient, first, second }, update);
    updatePlainly(expected.values, gradients, expected, update);
    for (let i = 0; i < COUNT; i++) expect(Math.abs(rows[i]! - expected.values[i]!), `value ${i}`).toBeLessThan(1e-6);
  }
});
