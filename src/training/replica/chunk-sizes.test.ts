import { expect, test } from 'vitest';
import { chunkSizes, fittingChunk } from './chunk-sizes.js';

/** Rows that are computed for a unit with `rows` supervised ones. */
function computedRows(rows: number, chunkRows: number): number {
  const chunks = chunkSizes(chunkRows).map((size) => ({ rows: size }));
  let computed = 0;
  for (let left = rows; left > 0; left -= fittingChunk(chunks, left).rows) computed += fittingChunk(chunks, left).rows;
  return computed;
}

test('sizes ascend, differ, and end with a whole chunk', () => {
  expect(chunkSizes(128)).toEqual([32, 64, 96, 128]);
  expect(chunkSizes(18)).toEqual([5, 9, 14, 18]);
  expect(chunkSizes(1)).toEqual([1]);
});

test('at most a quarter of a chunk is computed for nothing', () => {
  expect(computedRows(130, 128)).toBe(160);
  expect(computedRows(128, 128)).toBe(128);
  for (const chunkRows of [1, 2, 3, 16, 128]) {
    for (let rows = 1; rows <= 3 * chunkRows; rows++) {
      expect(computedRows(rows, chunkRows)).toBeGreaterThanOrEqual(rows);
      expect(computedRows(rows, chunkRows) - rows).toBeLessThan(Math.ceil(chunkRows / 4));
    }
  }
});
