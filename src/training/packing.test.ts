import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Random } from '../core/random.js';
import { AttentionMask } from './attention-mask.js';
import type { TrainingExample } from './examples.js';
import type { PackShape } from './pack.js';
import { dealIntoPacks, filledShare } from './pack-contents.js';
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

/** So many conversations with lengths between two, a sixth to two thirds of each supervised, as in self-study. */
function conversations(count: number, shortest: number, longest: number): TrainingExample[] {
  const random = new Random(3);
  return Array.from({ length: count }, (_, index) => {
    const length = shortest + random.integer(longest - shortest + 1);
    return example(index + 1, length, Math.floor(length * (1 / 6 + random.uniform() / 2)), 1);
  });
}

/** The fill of some epochs: it differs a little, as it is dealt. */
function fills(examples: readonly TrainingExample[], packTokens: number): { shape: PackShape; lowest: number } {
  const shape = choosePackShape(examples, packTokens);
  const epochs = Array.from({ length: 4 }, (_, epoch) =>
    filledShare(dealIntoPacks(examples, shape, new Random(epoch + 7)), shape),
  );
  return { shape, lowest: Math.min(...epochs) };
}

test.each([
  [100, 100, 256],
  [150, 150, 320],
  [90, 130, 256],
  [24, 64, 256],
  [80, 300, 608],
  [150, 450, 928],
  [200, 600, 1216],
  [30, 2048, 4096],
])('packs of conversations of %i to %i tokens are filled above 95 %, with at most %i tokens', (shortest, longest, most) => {
  const { shape, lowest } = fills(conversations(1_000, shortest, longest), 256);
  expect(lowest).toBeGreaterThan(0.95);
  expect(shape.slots * shape.slotTokens).toBeLessThanOrEqual(most);
});

test('a small dataset wastes little, too', () => {
  for (const [shortest, longest] of [
    [100, 100],
    [90, 130],
    [200, 600],
  ] as const) {
    expect(fills(conversations(32, shortest, longest), 256).lowest).toBeGreaterThan(0.93);
  }
});

test('the shape follows from the conversations alone', () => {
  const examples = conversations(300, 80, 300);
  expect(choosePackShape(examples, 256)).toEqual(choosePackShape(conversations(300, 80, 300), 256));
  const { slotTokens, slots } = choosePackShape(examples, 1024);
  expect(slotTokens % 16).toBe(0);
  expect(slots * slotTokens).toBeGreaterThan(512);
});
