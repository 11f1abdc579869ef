import { expect, test } from 'vitest';
import { formatBytes, parseBytes } from './format-bytes.js';

test.each([
  [1, 1],
  ['4096', 4096],
  ['512 B', 512],
  ['1.5KiB', 1536],
  [' 4 GiB ', 4 * 2 ** 30],
  ['2TiB', 2 ** 41],
])('%j is %d bytes', (size, bytes) => {
  expect(parseBytes(size)).toBe(bytes);
});

test.each([0, -1, 0.5, 1e300, Number.NaN, '', 'GiB', '4GB', '4 gib', '4GiB more', '0.1 B', '-4GiB', '99999999TiB'])(
  '%j is no size',
  (size) => {
    expect(parseBytes(size)).toBeUndefined();
  },
);

test('what is shown can be read', () => {
  for (const bytes of [1, 1023, 1536, 5 * 2 ** 20, 2.5 * 2 ** 30]) expect(parseBytes(formatBytes(bytes))).toBe(bytes);
});
