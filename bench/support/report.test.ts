import { expect, test } from 'vitest';
import type { Machine } from './machine.js';
import { comparison, renderReport } from './report.js';
import { median } from './statistics.js';

const machine: Machine = {
  cpu: 'Test CPU',
  cores: 2,
  flags: ['avx2'],
  memoryBytes: 2 ** 34,
  system: 'linux x64 6.1',
  node: 'v20.0.0',
  engine: 'ggml 0',
  loadBefore: 0.5,
};
const speed = { case: 'a step', unit: 'tokens/s', ours: 300, rival: 200, rivalName: 'rival' };

test('a ratio above 1 is better for us, whether more or less is better', () => {
  expect(comparison(speed).ratio).toBe(1.5);
  expect(comparison({ ...speed, unit: 'MiB' }, 'lower').ratio).toBe(0.667);
});

test('without a rival there is no ratio', () => {
  expect(comparison({ ...speed, rival: null })).toMatchObject({ ours: 300, rival: null, ratio: null });
});

test('figures keep three digits', () => {
  expect(comparison({ ...speed, ours: 123.456, rival: 0.012345 })).toMatchObject({ ours: 123, rival: 0.0123, ratio: 10_000 });
});

test('the table says where it was measured, every case and every note', () => {
  const text = renderReport({ name: 'training', machine, cases: [comparison(speed)], notes: ['the machine was shared'] });
  expect(text).toMatch(/^training: Test CPU, 2 cores, 16 GiB \(avx2\)$/m);
  expect(text).toMatch(/^a step\s+tokens\/s\s+300\s+200\s+rival\s+1\.5$/m);
  expect(text).toMatch(/^the machine was shared$/m);
});

test('a bench that was skipped says why', () => {
  expect(renderReport({ name: 'training', machine, cases: [], skipped: 'no model' })).toMatch(/^skipped: no model$/m);
});

test('the median of an odd and an even number of values', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(() => median([])).toThrow(RangeError);
});
