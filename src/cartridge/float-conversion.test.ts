import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { allFinite, decodeFloats, encodeFloats, type FloatType } from './float-conversion.js';

const ALL_HALVES = Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits);

function encode(value: number, type: FloatType): number {
  return new Uint16Array(encodeFloats(Float32Array.of(value), type).buffer)[0]!;
}

function decode(bits: number, type: FloatType): number {
  return decodeFloats(new Uint8Array(Uint16Array.of(bits).buffer), type)[0]!;
}

function fromBits(bits: number): number {
  return new Float32Array(Uint32Array.of(bits).buffer)[0]!;
}

describe.each<FloatType>(['f16', 'bf16'])('%s', (type) => {
  test('every 16-bit number comes back', () => {
    const values = decodeFloats(new Uint8Array(ALL_HALVES.buffer), type);
    const back = new Uint16Array(encodeFloats(values, type).buffer);
    const different = ALL_HALVES.filter((bits) => back[bits] !== bits && !Number.isNaN(values[bits]));
    expect(different).toEqual(new Uint16Array());
    expect(values.every((value, bits) => !Number.isNaN(value) || Number.isNaN(decode(back[bits]!, type)))).toBe(true);
  });

  test('every f32 goes to the nearest, ties to the even one', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0xffffffff }).map(fromBits), (value) => {
        fc.pre(allFinite(Float32Array.of(value), type));
        const bits = encode(value, type);
        const error = Math.abs(decode(bits, type) - value);
        for (const neighbour of [bits - 1, bits + 1].filter((other) => other >> 15 === bits >> 15)) {
          const other = Math.abs(decode(neighbour, type) - value);
          expect(error < other || (error === other && bits % 2 === 0)).toBe(true);
        }
      }),
      { numRuns: 5000, seed: 1 },
    );
  });

  test('halfway numbers go to the even one', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 0x7bfe }), (bits) => {
        const halfway = (decode(bits, type) + decode(bits + 1, type)) / 2;
        fc.pre(Math.fround(halfway) === halfway);
        expect(encode(halfway, type)).toBe(bits % 2 === 0 ? bits : bits + 1);
        expect(encode(-halfway, type)).toBe(0x8000 | (bits % 2 === 0 ? bits : bits + 1));
      }),
      { numRuns: 2000, seed: 2 },
    );
  });

  test('infinity, NaN and zeros keep their kind and sign', () => {
    for (const value of [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN, 0, -0]) {
      expect(decode(encode(value, type), type)).toBe(value);
    }
    expect(decode(encode(fromBits(0x7f800001), type), type)).toBeNaN();
  });
});

test.each([
  ['f16', 65504, 0x7bff],
  ['f16', 65519.996, 0x7bff],
  ['f16', 65520, 0x7c00],
  ['f16', 1e30, 0x7c00],
  ['f16', -1e30, 0xfc00],
  ['f16', 2 ** -14, 0x0400],
  ['f16', 2 ** -24, 0x0001],
  ['f16', 2 ** -25, 0x0000],
  ['f16', 2 ** -25 * (1 + 2 ** -23), 0x0001],
  ['f16', 2 ** -14 - 2 ** -26, 0x0400],
  ['f16', -1.5, 0xbe00],
  ['bf16', 1, 0x3f80],
  ['bf16', 3.3895e38, 0x7f7f],
  ['bf16', 3.4e38, 0x7f80],
  ['bf16', -(1 + 2 ** -8), 0xbf80],
] as const)('%s of %d', (type, value, bits) => {
  expect(encode(value, type)).toBe(bits);
});

test.each<FloatType>(['f32', 'f16', 'bf16'])('allFinite for %s is what encoding keeps finite', (type) => {
  fc.assert(
    fc.property(fc.integer({ min: 0x47700000, max: 0x7fffffff }).map(fromBits), (value) => {
      const stored = decodeFloats(encodeFloats(Float32Array.of(value), type), type)[0];
      expect(allFinite(Float32Array.of(value), type)).toBe(Number.isFinite(stored));
    }),
    { numRuns: 5000, seed: 3, examples: [[fromBits(0x7f7f7fff)], [fromBits(0x7f7f8000)], [65520], [fromBits(0x477fefff)]] },
  );
});

test('f32 is neither rounded nor copied, and any alignment decodes', () => {
  const values = Float32Array.of(1 / 3, -2);
  const bytes = encodeFloats(values, 'f32');
  expect(bytes.buffer).toBe(values.buffer);
  const shifted = new Uint8Array(bytes.length + 1);
  shifted.set(bytes, 1);
  expect(decodeFloats(shifted.subarray(1), 'f32')).toEqual(values);
});
