import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { textWidth, wrapText } from './wrap-text.js';

describe('wrapText', () => {
  it('breaks between words and keeps lines', () => {
    expect(wrapText('The ferry sails at ten.\n\n  - a list', 10)).toEqual(['The ferry', 'sails at', 'ten.', '', '  - a list']);
  });

  it('cuts a word that is longer than a line', () => {
    expect(wrapText('a 0123456789ab', 5)).toEqual(['a', '01234', '56789', 'ab']);
  });

  it('counts wide characters twice and accents not at all', () => {
    expect(textWidth('鍵')).toBe(2);
    expect(textWidth('e\u0301')).toBe(1);
    expect(wrapText('鍵鍵鍵', 4)).toEqual(['鍵鍵', '鍵']);
  });

  it('makes no line too wide and loses nothing but space', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 80 }), fc.integer({ min: 2, max: 20 }), (text, width) => {
        const lines = wrapText(text, width);
        expect(Math.max(...lines.map(textWidth))).toBeLessThanOrEqual(width);
        expect(lines.join('').replace(/\s/g, '')).toBe(text.replace(/\s/g, ''));
      }),
    );
  });
});
