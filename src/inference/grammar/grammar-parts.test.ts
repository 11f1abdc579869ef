import { describe, expect, it } from 'vitest';
import { atomOf, literal, mergeRanges } from './grammar-parts.js';

describe('a part', () => {
  it.each(['', 'a', 'say "\\n"', '\n\u0000\u007f', 'é🙂', ']['])('keeps the text %j', (text) => {
    expect(atomOf(literal(text))).toEqual({ text, isSingle: true, isOptional: false });
  });

  it.each<[string, [number, number][]]>([
    [
      '[a-cx]',
      [
        [97, 99],
        [120, 120],
      ],
    ],
    [
      '[-+]',
      [
        [45, 45],
        [43, 43],
      ],
    ],
    [
      '[a-]',
      [
        [97, 97],
        [45, 45],
      ],
    ],
    [
      '["\\\\/]',
      [
        [34, 34],
        [92, 92],
        [47, 47],
      ],
    ],
    [
      '[^\\x00-\\x1F\\U0000005Da]',
      [
        [32, 92],
        [94, 96],
        [98, 0x10ffff],
      ],
    ],
  ])('reads the characters of %s', (part, ranges) => expect(atomOf(part).ranges).toEqual(ranges));

  it.each([
    ['rule-7', true, false],
    ['rule-7*', false, true],
    ['"a"?', false, true],
    ['[0-9]{0,14}', false, true],
    ['character{0,}', false, true],
    ['character{1,15}', false, false],
    ['" "{10,}', false, false],
  ])('reads how often %s comes', (part, isSingle, isOptional) => expect(atomOf(part)).toMatchObject({ isSingle, isOptional }));
});

it('merges ranges that touch', () => {
  expect(
    mergeRanges([
      [5, 6],
      [1, 2],
      [3, 3],
      [9, 9],
      [5, 5],
    ]),
  ).toEqual([
    [1, 3],
    [5, 6],
    [9, 9],
  ]);
});
