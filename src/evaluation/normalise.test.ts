import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { containsAtWordBorders, normalise } from './normalise.js';

const anyText = fc.string({ unit: 'grapheme' });
const word = fc.stringMatching(/^[a-zà-ö0-9]{1,6}$/);

describe('normalise', () => {
  it.each([
    ['  The  ANSWER\n is:\t“Paris”! ', 'the answer is paris'],
    ['ﬁve ½ Ｆｅｒｒｙ', 'five 1⁄2 ferry'],
    ["isn't it?", "isn't it"],
    ['1,840 hectares.', '1,840 hectares'],
    ['— … !', ''],
    ['**9 October**, 1871', '9 october 1871'],
    ['e\u0301', 'é'],
    ['€210,000', '€210,000'],
  ])('%j becomes %j', (text, expected) => {
    expect(normalise(text)).toBe(expected);
  });

  it('changes nothing the second time', () => {
    fc.assert(
      fc.property(fc.oneof(anyText, fc.string({ unit: 'binary' })), (text) => normalise(normalise(text)) === normalise(text)),
    );
  });

  it('folds case, white space and outer punctuation', () => {
    fc.assert(
      fc.property(fc.array(word), (words) => {
        const loud = words.map((each) => ` "${each.toUpperCase()}", \n`).join('');
        expect(normalise(loud)).toBe(normalise(words.join(' ')));
      }),
    );
  });
});

describe('containsAtWordBorders', () => {
  it.each([
    ['the art of war', 'art', true],
    ['a party', 'art', false],
    ['arts', 'art', false],
    ['party art', 'art', true],
    ["larue's clock", 'larue', true],
    ['harbour-master', 'harbour', true],
    ['snake_case', 'snake', false],
    ['it costs €7', '7', true],
    ['it costs €17', '7', false],
    ['1,840 hectares', '840', false],
    ['1.5 metres', '1', false],
    ['1, 2', '1', true],
    ['x,7', '7', true],
    ['naïve', 'na', false],
    ['anything', '', false],
  ])('%j contains %j: %s', (text, part, expected) => {
    expect(containsAtWordBorders(text, part)).toBe(expected);
  });

  it('finds any run of whole words, and none that starts or ends inside a word', () => {
    fc.assert(
      fc.property(fc.array(word), fc.array(word, { minLength: 1 }), fc.array(word), (before, part, after) => {
        const sought = part.join(' ');
        expect(containsAtWordBorders([...before, sought, ...after].join(' '), sought)).toBe(true);
        expect(containsAtWordBorders(`ß${sought}`, sought)).toBe(false);
        expect(containsAtWordBorders(`${sought}ß`, sought)).toBe(false);
      }),
    );
  });
});
