import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Pack, PackShape } from '../pack.js';
import type { ReplicaShape } from './replica-shape.js';
import { cutPack, tilesOf } from './replica-unit.js';

const PREFIX = 5;

/** A pack whose slots hold conversations of the given lengths, with one supervised token in each. */
function packOf(slots: number[][], slotTokens: number): Pack {
  const tokenCount = slots.length * slotTokens;
  const shape: PackShape = { slots: slots.length, slotTokens, supervisedRows: tokenCount, entriesPerRow: 1 };
  const segments = new Int32Array(tokenCount).fill(-1);
  const positions = new Int32Array(tokenCount);
  const rows: number[] = [];
  slots.forEach((lengths, slot) => {
    let at = slot * slotTokens;
    lengths.forEach((length, segment) => {
      segments.fill(segment, at, at + length);
      for (let i = 0; i < length; i++) positions[at + i] = i;
      at += length;
      rows.push(at - 1);
    });
  });
  const weights = new Float32Array(tokenCount).fill(1, 0, rows.length);
  const counts = { supervisedTokens: rows.length, entries: rows.length, conversations: rows.length, weightedLogprobSum: 0 };
  const tokens = Int32Array.from({ length: tokenCount }, (_, index) => index);
  const padded = Int32Array.from({ length: tokenCount }, (_, index) => rows[index] ?? 0);
  return { shape, tokens, positions, segments, rows: padded, tokenIds: padded, weights, ...counts };
}

const slot = (slotTokens: number) =>
  fc.array(fc.integer({ min: 1, max: slotTokens }), { maxLength: 5 }).map((lengths) => {
    let free = slotTokens;
    return lengths.filter((length) => {
      const fits = length <= free;
      if (fits) free -= length;
      return fits;
    });
  });
const cases = fc
  .record({ slotTokens: fc.integer({ min: 1, max: 40 }), blockTokens: fc.integer({ min: 1, max: 12 }) })
  .chain(({ slotTokens, blockTokens }) =>
    fc.record({
      slotTokens: fc.constant(slotTokens),
      blockTokens: fc.constant(blockTokens),
      slots: fc.array(slot(slotTokens), { minLength: 2, maxLength: 2 }),
    }),
  );

test('units hold every supervised token, and tiles every pair that may look at each other', () => {
  fc.assert(
    fc.property(cases, ({ slotTokens, blockTokens, slots }) => {
      const pack = packOf(slots, slotTokens);
      const padded = Math.ceil(slotTokens / blockTokens) * blockTokens;
      const sizes = { slots: 1, slotTokens: padded, blockTokens, tokens: padded, packSlotTokens: slotTokens };
      const rest = { prefixTokens: PREFIX, chunkRows: 4, entriesPerRow: 1, recomputedLayers: 0 };
      const shape: ReplicaShape = { ...sizes, ...rest };
      const used = slots.filter((lengths) => lengths.length > 0);
      const units = cutPack(pack, shape);
      expect(units).toHaveLength(used.length);
      units.forEach((unit, index) => {
        const lengths = used[index]!;
        expect(unit.rows).toHaveLength(lengths.length);
        // The class of a target is the token that predicts it.
        expect([...unit.rows].map((row) => unit.tokens[row])).toEqual([...unit.tokenIds]);
        const tiles = tilesOf(unit, shape);
        unit.starts.forEach((start, token) => {
          if (start < 0) return;
          expect(unit.positions[token]).toBe(PREFIX + token - start);
          const tile = tiles.find(({ block }) => block === Math.floor(token / blockTokens))!;
          expect(tile.firstBlock * blockTokens).toBeLessThanOrEqual(start);
        });
        expect(tiles).toHaveLength(Math.ceil(lengths.reduce((sum, length) => sum + length, 0) / blockTokens));
      });
    }),
  );
});

test('blocks that nothing in a tile looks at are left out', () => {
  const pack = packOf([[8, 4, 4]], 16);
  const sizes = { slots: 1, slotTokens: 16, blockTokens: 4, tokens: 16, packSlotTokens: 16 };
  const shape: ReplicaShape = { ...sizes, prefixTokens: PREFIX, chunkRows: 4, entriesPerRow: 1, recomputedLayers: 0 };
  const [unit] = cutPack(pack, shape);
  const tiles = tilesOf(unit!, shape);
  expect(tiles.map(({ block, firstBlock }) => [firstBlock, block])).toEqual([
    [0, 0],
    [0, 1],
    [2, 2],
    [3, 3],
  ]);
});
