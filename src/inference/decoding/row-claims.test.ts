import fc from 'fast-check';
import { expect, it } from 'vitest';
import { RowClaims } from './row-claims.js';

/** All that one thread can still claim. */
function claimAll(claims: RowClaims, range: { start: number; count: number }): number[] {
  const indices: number[] = [];
  for (let index = claims.claim(range); index !== undefined; index = claims.claim(range)) indices.push(index);
  return indices;
}

it('gives each row to one of those who share the memory, also where the numbers overflow', () => {
  const counts = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(
      counts,
      fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      fc.infiniteStream(fc.boolean()),
      (ranges, first, turns) => {
        const [one, other] = [new RowClaims()].flatMap((claims) => [claims, new RowClaims(claims.shared)]) as [
          RowClaims,
          RowClaims,
        ];
        new Int32Array(one.shared).fill(first);
        for (const count of ranges) {
          const range = one.open(count);
          const claimed = Array.from({ length: count }, () => (turns.next().value ? one : other).claim(range));
          expect(claimed).toEqual(Array.from({ length: count }, (_, index) => index));
          expect([one.claim(range), other.claim(range)]).toEqual([undefined, undefined]);
          one.finish(count);
          expect(other.waitFor(range, 0)).toBe(true);
        }
      },
    ),
  );
});

it('has nothing left for who comes late to a range', () => {
  const claims = new RowClaims();
  const early = claims.open(3);
  expect(claimAll(claims, early)).toEqual([0, 1, 2]);
  const next = claims.open(4);
  expect(claims.claim(next)).toBe(0);
  expect(claims.claim(early)).toBeUndefined();
  expect(claimAll(claims, next)).toEqual([1, 2, 3]);
});

it('waits until the last row is done, and no longer than it is told', () => {
  const claims = new RowClaims();
  const range = claims.open(2);
  claimAll(claims, range);
  claims.finish(1);
  const start = performance.now();
  expect(claims.waitFor(range, 30)).toBe(false);
  expect(performance.now() - start).toBeGreaterThan(25);
  claims.finish(1);
  expect(claims.waitFor(range, 0)).toBe(true);
});
