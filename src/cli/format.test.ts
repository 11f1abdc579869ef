import { describe, expect, it } from 'vitest';
import { formatSeconds, formatTable, formatValue, printable, printableLines } from './format.js';

describe('formats', () => {
  it('seconds', () => {
    const shown = [0.04, 9.949, 9.96, 59.94, 59.96, 200, 3599.6, 7500].map(formatSeconds);
    expect(shown).toEqual(['0.0 s', '9.9 s', '10 s', '60 s', '1 min 0 s', '3 min 20 s', '1 h 0 min', '2 h 5 min']);
  });

  it('values', () => {
    expect([3, 0.123456, 12.345, 1234.5, 1e-7, Number.NaN].map(formatValue)).toEqual([
      '3',
      '0.1235',
      '12.3',
      '1235',
      '1e-7',
      'NaN',
    ]);
  });

  it('tables', () => {
    expect(
      formatTable([
        ['a', 'bb'],
        ['ccc', ''],
      ]),
    ).toBe('a    bb\nccc\n');
  });

  it('text that is not to be trusted', () => {
    expect(printable('llama \u001b[31mred\r\n')).toBe('llama \uFFFD[31mred\uFFFD\uFFFD');
    expect(printableLines('a\tb\r\nred \u001b[31m\u009b2J\u007f é 🔑\n')).toBe('a\tb\nred \uFFFD[31m\uFFFD2J\uFFFD é 🔑\n');
  });
});
