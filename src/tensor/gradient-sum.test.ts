import { afterAll, expect, test } from 'vitest';
import { createBackend } from '../native/devices.js';
import { Backend } from './backend.js';
import { GradientSum } from './gradient-sum.js';
import { floatsAt, NativeMemory } from './native-memory.js';

const COUNT = 1_003;
const PART_BYTES = 4_096;
const PARTS = 3;
const backend = new Backend({ device: 'cpu', threads: 1 });
const { ggml } = backend.engine;
const memory = new NativeMemory(ggml, backend.handle, PARTS * PART_BYTES, 'a test');
const thread = { ggml, backend: createBackend(backend.engine, backend.device, 1), buffer: memory.buffer };
const gradientSum = new GradientSum(thread, COUNT);
afterAll(() => {
  gradientSum.dispose();
  ggml.ggml_backend_free(thread.backend);
  memory.dispose();
  backend.dispose();
});

test.each([1, 2, 3])('adds up the gradients of %i workers', (workers) => {
  const addresses = Array.from({ length: workers }, (_, part) => memory.address + BigInt(part * PART_BYTES));
  const gradients = addresses.map((address) => floatsAt(address, COUNT));
  for (const [part, gradient] of gradients.entries()) gradient.set(gradient.map((_, i) => Math.sin(i * 1.3 + part)));
  const others = gradients.slice(1).map((gradient) => gradient.slice());
  const expected = Array.from(gradients[0]!, (value, i) => others.reduce((sum, other) => sum + other[i]!, value));

  const squares = gradientSum.run(addresses);
  for (const [i, value] of expected.entries()) expect(gradients[0]![i]).toBeCloseTo(value, 6);
  expect(squares / expected.reduce((sum, value) => sum + value * value, 0)).toBeCloseTo(1, 5);
  expect(gradients.slice(1)).toEqual(others);
});
