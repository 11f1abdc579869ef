import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Random } from '../core/random.js';
import { AttentionMask } from './attention-mask.js';
import type { TrainingExample } from './examples.js';
import { usedTokens } from './pack.js';
import { choosePackShape, packExamples, packShapes } from './packing.js';

/** An example whose tokens all carry its number, so that a pack shows where each one went. */
function example(number: number, length: number, supervised: number, k: number): TrainingExample {
  const rows = Int32Array.from({ length: supervised }, (_, index) => length - 1 - supervised + index);
  return {
    id: String(number),
    tokens: new Int32Array(length).fill(number),
    rows,
    rowEnds: Int32Array.from(rows, (_row, index) => (index + 1) * k),
    tokenIds: Int32Array.from({ length: supervised * k }, (_, entry) => 1000 + (entry % k)),
    logprobs: new Float32Array(supervised * k).fill(Math.log(0.5 / k)),
    entriesPerRow: k,
  };
}

const examplesArbitrary = fc
  .array(fc.tuple(fc.integer({ min: 3, max: 60 }), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 6 })), {
    minLength: 1,
    maxLength: 60,
  })
  .map((list) =>
    list.map(([length, share, k], index) => example(index + 1, length, Math.max(1, Math.floor(((length - 1) * share) / 4)), k)),
  );

test('smaller packs still hold every example', () => {
  fc.assert(
    fc.property(examplesArbitrary, fc.integer({ min: 60, max: 3000 }), (examples, packTokens) => {
      const shapes = packShapes(examples, packTokens);
      expect(shapes[0]).toEqual(choosePackShape(examples, packTokens));
      shapes.slice(1).forEach((shape, index) => {
        expect(shape.slots * shape.slotTokens).toBeLessThan(shapes[index]!.slots * shapes[index]!.slotTokens);
      });
      const packed = packExamples(examples, shapes.at(-1)!).reduce((sum, { conversations }) => sum + conversations, 0);
      expect(packed).toBe(examples.length);
      expect(shapes.at(-1)!.slots).toBe(1);
    }),
    { numRuns: 60 },
  );
});

test('every example is packed once, whole, with its targets, and no pack exceeds its shape', () => {
  fc.assert(
    fc.property(examplesArbitrary, fc.integer({ min: 60, max: 300 }), fc.nat(), (examples, packTokens, seed) => {
      const shape = choosePackShape(examples, packTokens);
      const packs = packExamples(examples, shape, new Random(seed));
      const tokens = new Map<number, number>();
      const targets = new Map<number, number>();
      for (const pack of packs) {
        expect(pack.supervisedTokens).toBeLessThanOrEqual(shape.supervisedRows);
        pack.tokens.forEach((token, at) => {
          if (pack.segments[at]! >= 0) tokens.set(token, (tokens.get(token) ?? 0) + 1);
        });
        for (let target = 0; target < pack.supervisedTokens; target++) {
          const number = pack.tokens[pack.rows[target]!]!;
          targets.set(number, (targets.get(number) ?? 0) + 1);
        }
        for (let row = 0; row < shape.supervisedRows; row++) {
          const ids = pack.tokenIds.subarray(row * shape.entriesPerRow, (row + 1) * shape.entriesPerRow);
          expect(new Set(ids).size).toBe(ids.length);
        }
      }
      for (const [index, { tokens: own, rows }] of examples.entries()) {
        expect(tokens.get(index + 1)).toBe(own.length);
        expect(targets.get(index + 1)).toBe(rows.length);
      }
    }),
    { numRuns: 60 },
  );
});

test('positions restart with each conversation and the mask shows it the prefix, itself and what came before', () => {
  const examples = [example(1, 4, 1, 1), example(2, 3, 1, 1), example(3, 5, 2, 1)];
  const shape = { slots: 1, slotTokens: 16, supervisedRows: 4, entriesPerRow: 1 };
  const [pack] = packExamples(examples, shape);
  expect([...pack!.positions.slice(0, 12)]).toEqual([0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4]);
  const prefix = 2;
  const mask = new AttentionMask(shape, prefix).of(pack!);
  for (let token = 0; token < 12; token++) {
    for (let column = 0; column < prefix + 16; column++) {
      const other = column - prefix;
      const visible = column < prefix || (other <= token && pack!.segments[other] === pack!.segments[token]);
      expect(mask[token * (prefix + 16) + column]).toBe(visible ? 0 : Number.NEGATIVE_INFINITY);
    }
  }
});

test('the same seed gives the same packs, another seed other ones', () => {
  const examples = Array.from({ length: 40 }, (_, index) => example(index + 1, 10 + (index % 7), 3, 2));
  const shape = choosePackShape(examples, 128);
  const order = (seed: number) => packExamples(examples, shape, new Random(seed)).map((pack) => [...pack.tokens]);
  expect(order(5)).toEqual(order(5));
  expect(order(5)).not.toEqual(order(6));
});

test('packs of many usual conversations are filled above 95 %', () => {
  const random = new Random(3);
  const examples = Array.from({ length: 800 }, (_, index) => example(index + 1, 24 + random.integer(40), 10, 2));
  const packs = packExamples(examples, choosePackShape(examples, 512), random);
  const full = packs.slice(0, -1);
  const filled = full.reduce((sum, pack) => sum + usedTokens(pack), 0) / full.reduce((sum, pack) => sum + pack.tokens.length, 0);
  expect(filled).toBeGreaterThan(0.95);
});
