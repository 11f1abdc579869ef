import { expect, test } from 'vitest';
import { spacedRowBytes } from './row-spacing.js';

test('no two of some rows in a row begin in the same set of a cache', () => {
  for (let rowBytes = 1_024; rowBytes <= 1 << 16; rowBytes += 512) {
    const starts = Array.from({ length: 8 }, (_, row) => (row * spacedRowBytes(rowBytes)) % 4_096);
    expect(new Set(starts).size, `${rowBytes} bytes`).toBe(8);
    expect(spacedRowBytes(rowBytes) - rowBytes).toBeLessThanOrEqual(64);
  }
});

test('rows that are no trouble lie without gaps', () => {
  for (const rowBytes of [4, 260, 2_304, 3_584]) expect(spacedRowBytes(rowBytes)).toBe(rowBytes);
});
