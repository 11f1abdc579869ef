import { expect, it } from 'vitest';
import { Agreement } from './agreement.js';
import type { Drafter } from './draft-source.js';
import { Speculation } from './speculation.js';

const CHEAP = 0.05;
const USUAL = 0.7;

/** Always guesses a row of ones that rests on `matched` tokens. */
function speculation(matched = 8): Speculation {
  const tokens = new Int32Array(64).fill(1);
  const drafter: Drafter = { add: () => {}, guess: (count) => ({ tokens: tokens.subarray(0, count), matched }) };
  const made = new Speculation({ follow: () => drafter }, Int32Array.of(0), 100);
  made.note(1);
  return made;
}

/** Lengths of drafts with these tokens coming. */
function draftLengths(drafting: Speculation, tokens: readonly number[], rowCost = USUAL): number[] {
  return tokens.map((token) => {
    const { length } = drafting.draft(50, rowCost);
    drafting.note(token);
    return length;
  });
}

it('drafts more where guesses rest on more and rows cost less, but never beyond its room', () => {
  const lengths = (matched: number, rowCost: number, room = 50) => speculation(matched).draft(room, rowCost).length;
  expect([2, 3, 5, 8].map((matched) => lengths(matched, USUAL))).toEqual([0, 0, 1, 2]);
  expect([2, 3, 5, 8].map((matched) => lengths(matched, CHEAP))).toEqual([9, 11, 13, 13]);
  expect(lengths(8, CHEAP, 3)).toBe(3);
  expect(lengths(8, CHEAP, 0)).toBe(0);
  expect(lengths(8, 1)).toBe(0);
});

it('stops where guesses are wrong, and begins again, with little, where they would have been right', () => {
  const drafting = speculation();
  const wrong = draftLengths(drafting, new Array(40).fill(0));
  expect(wrong[0]).toBe(2);
  expect(wrong.at(-1)).toBe(0);
  expect(wrong).toEqual(wrong.toSorted((a, b) => b - a));
  const right = draftLengths(drafting, new Array(200).fill(1));
  expect(right[0]).toBe(0);
  expect(right.find((length) => length > 0)).toBe(1);
  expect(right.at(-1)).toBeGreaterThan(2);
});

it('does nothing before the first token of the answer', () => {
  const source = { follow: () => expect.unreachable() };
  expect(new Speculation(source, Int32Array.of(1), 5).draft(5, 0)).toHaveLength(0);
});

it('counts for each length of match alone', () => {
  const agreement = new Agreement();
  for (let i = 0; i < 200; i++) agreement.note(3, false);
  expect(agreement.chance(3)).toBeLessThan(0.3);
  expect(agreement.chance(4)).toBe(0.7);
  expect(agreement.chance(20)).toBe(0.9);
});
