import fc from 'fast-check';
import { expect, test } from 'vitest';
import { halvesToNeighbours, neighboursToHalves } from './key-order.js';

test('pairs of halves become neighbours in each head', () => {
  const keys = Float32Array.of(0, 1, 2, 10, 11, 12, 100, 101, 102, 110, 111, 112);
  expect([...halvesToNeighbours(keys, 6)]).toEqual([0, 10, 1, 11, 2, 12, 100, 110, 101, 111, 102, 112]);
});

test('each way undoes the other', () => {
  const sizes = fc.record({ pairs: fc.integer({ min: 1, max: 8 }), heads: fc.integer({ min: 0, max: 6 }) });
  fc.assert(
    fc.property(sizes, ({ pairs, heads }) => {
      const keys = Float32Array.from({ length: 2 * pairs * heads }, (_, index) => index);
      expect(neighboursToHalves(halvesToNeighbours(keys, 2 * pairs), 2 * pairs)).toEqual(keys);
      expect(halvesToNeighbours(neighboursToHalves(keys, 2 * pairs), 2 * pairs)).toEqual(keys);
    }),
  );
});
