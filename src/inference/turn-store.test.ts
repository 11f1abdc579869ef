import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { NativeBytes } from '../native/native-bytes.js';
import { type StoredTurn, TurnStore } from './turn-store.js';

const BYTES_PER_ROW = 10;
const BYTES_PER_TOKEN = Int32Array.BYTES_PER_ELEMENT;

/** A copy of the rows from `start` on of so many tokens that count up from `first`. */
function turn(
  length: number,
  { start = 0, first = 0, originKey = 'ada', cartridgeKeys = ['notes'] as readonly string[] } = {},
): StoredTurn {
  const tokens = Int32Array.from({ length }, (_, index) => first + index);
  return { originKey, cartridgeKeys, tokens, start, rows: new NativeBytes((length - start) * BYTES_PER_ROW) };
}
const { tokens: counting } = turn(200);

describe('the store of turns', () => {
  it('finds what goes on furthest, only in its own origin', () => {
    const store = new TurnStore(1e6);
    const [short, long] = [turn(20), turn(30, { start: 10 })];
    store.add(short);
    store.add(long);
    expect(store.find('ada', counting, 0)).toEqual({ turn: short, length: 20 });
    expect(store.find('ada', counting, 10)).toEqual({ turn: long, length: 30 });
    expect(store.reach('ada', counting, 0)).toBe(30);
    expect(store.reach('ada', counting.subarray(0, 25), 20)).toBe(20);
    expect(store.find('bob', counting, 0)).toBeUndefined();
    expect(store.find('ada', turn(50, { first: 7 }).tokens, 0)).toBeUndefined();
  });

  it('leaves alone what is computed as fast as it is copied', () => {
    const store = new TurnStore(1e6);
    store.add(turn(100));
    store.add(turn(40, { originKey: 'bob' }));
    expect(store.find('ada', counting.subarray(0, 12), 0)).toBeUndefined();
    expect(store.find('ada', counting.subarray(0, 13), 0)).toMatchObject({ length: 13 });
    expect(store.find('bob', counting.subarray(0, 7), 0)).toBeUndefined();
    expect(store.find('bob', counting.subarray(0, 8), 0)).toMatchObject({ length: 8 });
  });

  it('brings a short answer back for what follows it', () => {
    const store = new TurnStore(1e6);
    for (const copy of [turn(50), turn(53, { start: 50 }), turn(90, { start: 53 })]) store.add(copy);
    expect(store.reach('ada', counting, 0)).toBe(90);
    expect(store.find('ada', counting, 90)).toBeUndefined();
  });

  it('holds the same rows once', () => {
    const store = new TurnStore(1e6);
    store.add(turn(20));
    expect(store.has('ada', counting.subarray(0, 20), 5)).toBe(true);
    expect(store.has('ada', counting.subarray(0, 21), 5)).toBe(false);
    store.add(turn(30));
    expect(store.bytes).toBe(30 * (BYTES_PER_ROW + BYTES_PER_TOKEN));
  });

  it('keeps to its bytes, and lets what was not used for longest go first', () => {
    const [a, b, c] = [turn(10), turn(10, { first: 50 }), turn(10, { first: 90 })] as const;
    const bytesOfOne = 10 * (BYTES_PER_ROW + BYTES_PER_TOKEN);
    const store = new TurnStore(2 * bytesOfOne);
    store.add(a);
    store.add(b);
    store.touch(a);
    store.add(c);
    expect([a, b, c].map(({ tokens }) => store.has('ada', tokens, 0))).toEqual([true, false, true]);
    store.add(turn(40));
    expect(store.bytes).toBe(2 * bytesOfOne);
  });

  it('forgets what lies behind a cartridge, and counts what is lost', () => {
    const store = new TurnStore(1e6);
    const lost = turn(10, { originKey: 'bob', cartridgeKeys: [] });
    store.add(turn(10));
    store.add(lost);
    store.dropBehind('notes');
    expect(store.bytes).toBe(10 * (BYTES_PER_ROW + BYTES_PER_TOKEN));
    store.lose(lost);
    expect({ bytes: store.bytes, lost: store.lost }).toEqual({ bytes: 0, lost: 1 });
  });

  it('counts its bytes right, whatever comes and goes', () => {
    const step = fc.record({
      length: fc.integer({ min: 1, max: 40 }),
      start: fc.integer({ min: 0, max: 39 }),
      first: fc.constantFrom(0, 0, 100),
      originKey: fc.constantFrom('ada', 'bob'),
      cartridgeKeys: fc.constantFrom(['a'], ['b']),
      forgets: fc.constantFrom(undefined, undefined, 'a', 'b'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const store = new TurnStore(1500);
        for (const { length, start, forgets, ...more } of steps) {
          store.add(turn(length, { ...more, start: Math.min(start, length - 1) }));
          if (forgets) store.dropBehind(forgets);
          expect(store.bytes).toBeLessThanOrEqual(1500);
        }
        for (const key of ['a', 'b']) store.dropBehind(key);
        expect(store.bytes).toBe(0);
      }),
    );
  });
});
