import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RepetitionWatch } from './repetition.js';

/** Index of the token at which the watch first sees a repetition; −1 when it never does. */
function firstSeen(tokens: readonly number[]): number {
  const watch = new RepetitionWatch();
  return tokens.findIndex((token) => watch.note(token));
}

const repeat = (passage: readonly number[], times: number) => Array.from({ length: times }, () => passage).flat();
const distinct = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i);

describe('RepetitionWatch', () => {
  it('sees a passage that came three times and fills 48 further tokens', () => {
    expect(firstSeen([1, 2, 3, ...repeat([9], 60)])).toBe(3 + 48);
    expect(firstSeen([1, 2, 3, ...repeat(distinct(10, 50), 9)])).toBe(3 + 10 + 48 - 1);
    expect(firstSeen(repeat(distinct(64), 4))).toBe(3 * 64 - 1);
  });

  it('lets even lists and long passages pass', () => {
    expect(firstSeen(repeat([7, 8], 24))).toBe(-1);
    expect(firstSeen([...repeat([7, 8], 24), 1, ...repeat([7, 8], 24)])).toBe(-1);
    expect(firstSeen(repeat(distinct(65), 6))).toBe(-1);
    expect(firstSeen(Array.from({ length: 40 }, (_, i) => [1, 2, 3, 100 + i]).flat())).toBe(-1);
  });

  it('sees the end of every text that goes on in a loop, and nothing in one that repeats no token', () => {
    const passage = fc.array(fc.nat(500), { minLength: 1, maxLength: 64 });
    fc.assert(
      fc.property(fc.array(fc.nat(500), { maxLength: 40 }), passage, (start, looped) => {
        const seen = firstSeen([...start, ...repeat(looped, 51)]);
        expect(seen).toBeGreaterThanOrEqual(48);
        expect(seen).toBeLessThan(start.length + looped.length + Math.max(48, 2 * looped.length));
      }),
    );
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat(), { maxLength: 300 }), (tokens) => {
        expect(firstSeen(tokens)).toBe(-1);
      }),
    );
  });
});
