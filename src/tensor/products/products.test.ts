import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { openKernelThread } from '../../../test/support/kernel-thread.js';
import { GgmlType } from '../../native/ggml.js';
import { viewMemory } from '../../native/koffi.js';
import { findOneDnn } from '../../native/onednn/library.js';
import { floatsAt } from '../native-memory.js';
import { GgmlProducts } from './ggml-products.js';
import { OneDnnProducts } from './onednn-products.js';
import { ProductTrial } from './product-trial.js';
import { dense, type Layout, OPERAND_BYTES, type OperandType, type Products } from './products.js';

const VALUES = 1 << 16;
const PARTS = 8;
const { backend, thread, address, dispose } = openKernelThread(PARTS * VALUES * 4);
const parts = Array.from({ length: PARTS }, (_, part) => address + BigInt(part * VALUES * 4));
const [a, b, c, d, e, f, g, scratch] = parts as [bigint, bigint, bigint, bigint, bigint, bigint, bigint, bigint];
const views = parts.map((address) => floatsAt(address, VALUES));
const [aValues, bValues, cValues, dValues, eValues] = views as [
  Float32Array,
  Float32Array,
  Float32Array,
  Float32Array,
  Float32Array,
];
afterAll(dispose);

const search = findOneDnn();
const oneDnn = search.state === 'found' ? search.library : undefined;

interface Provider {
  name: string;
  operandType: OperandType;
  create: () => Products;
}

const providers: Provider[] = [
  { name: 'ggml in f32', operandType: 'f32', create: () => new GgmlProducts(thread) },
  { name: 'ggml in bf16', operandType: 'bf16', create: () => new GgmlProducts(thread, 'bf16') },
];
const lacking: { name: string; reason: string }[] = [];
for (const operandType of ['f32', 'bf16'] as const) {
  const name = `oneDNN in ${operandType}`;
  const reason = whyOneDnnLacks(operandType);
  if (reason === undefined) providers.push({ name, operandType, create: () => new OneDnnProducts(oneDnn!, operandType) });
  else lacking.push({ name, reason });
}
test.skip.each(lacking)('products by $name: $reason', () => {});

function whyOneDnnLacks(operandType: OperandType): string | undefined {
  if (oneDnn === undefined) return 'CARTRIDGES_ONEDNN names no library that can be used';
  try {
    const products = { provider: 'oneDNN', operandType, path: oneDnn.path } as const;
    new ProductTrial(backend.engine, { products, weightType: operandType }, 64, 64).dispose();
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** Different for every index and call, and none of them an integer. */
function fill(values: Float32Array, seed: number): void {
  for (let index = 0; index < values.length; index++) values[index] = Math.sin(index * 1.7 + seed) * 2;
}

/** The factors of a product as plain numbers. In memory they lie in the operand type. */
const [leftValues, rightValues] = [new Float32Array(VALUES), new Float32Array(VALUES)];

/** Values that the operand type holds exactly: a bf16 is the upper half of an f32. */
function fillExactly(values: Float32Array, seed: number, type: OperandType): void {
  fill(values, seed);
  const bits = new Uint32Array(values.buffer);
  if (type === 'bf16') for (let index = 0; index < bits.length; index++) bits[index]! &= 0xffff0000;
}

function store(values: Float32Array, address: bigint, type: OperandType): void {
  if (type === 'f32') {
    floatsAt(address, values.length).set(values);
    return;
  }
  const operands = Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16);
  new Uint16Array(viewMemory(address, operands.byteLength)).set(operands);
}

/** Fills both factors of a product, and puts them at `a` and `b`. */
function storeFactors(seed: number, type: OperandType): void {
  fillExactly(leftValues, seed, type);
  fillExactly(rightValues, seed + 1, type);
  store(leftValues, a, type);
  store(rightValues, b, type);
}

/** Compares operands in memory with what they should be: bf16 has eight bits, to the nearest. */
function checkOperands(
  address: bigint,
  count: number,
  type: OperandType,
  expected: (index: number) => number,
  slack = 1e-6,
): void {
  const stored = new Uint16Array(viewMemory(address, Math.max(count * 2, 2)));
  const valueAt = (i: number) =>
    type === 'f32' ? floatsAt(address, count)[i]! : new Float32Array(Uint16Array.of(0, stored[i]!).buffer)[0]!;
  for (let i = 0; i < count; i++) {
    const value = expected(i);
    const tolerance = Math.abs(value) * (type === 'f32' ? 1e-5 : 1 / 250) + slack;
    expect(Math.abs(valueAt(i) - value), `value ${i}`).toBeLessThanOrEqual(tolerance);
  }
}

function offsetOf({ strides }: Layout, index: readonly number[]): number {
  return index.reduce((offset, position, axis) => offset + position * strides[axis]!, 0);
}

function indices(dimensions: readonly number[]): number[][] {
  return dimensions.reduce<number[][]>(
    (list, extent) => list.flatMap((index) => Array.from({ length: extent }, (_, position) => [...index, position])),
    [[]],
  );
}

/** c as the plain definition gives it, in doubles, by its offset. */
function multiplied(left: Layout, right: Layout, result: Layout, accumulate: boolean): Map<number, number> {
  const inner = left.dimensions.at(-1)!;
  return new Map(
    indices(result.dimensions).map((index) => {
      const [outer, row, column] = [index.slice(0, -2), index.at(-2)!, index.at(-1)!];
      let sum = accumulate ? cValues[offsetOf(result, index)]! : 0;
      for (let k = 0; k < inner; k++) {
        sum += leftValues[offsetOf(left, [...outer, row, k])]! * rightValues[offsetOf(right, [...outer, k, column])]!;
      }
      return [offsetOf(result, index), sum];
    }),
  );
}

/** Compares c with what {@link multiplied} gave. */
function checkProducts(expected: Map<number, number>): void {
  for (const [offset, value] of expected) expect(cValues[offset]).toBeCloseTo(value, 3);
}

/** A layout with its dimensions in any order in memory, and with gaps. `innermost` stays where it is asked for. */
function arbitraryLayout(dimensions: readonly number[], isResult = false): fc.Arbitrary<Layout> {
  const axes = dimensions.map((_, axis) => axis);
  const orders = isResult
    ? fc.shuffledSubarray(axes.slice(0, -1), { minLength: axes.length - 1 }).map((outer) => [...outer, axes.length - 1])
    : fc.shuffledSubarray(axes, { minLength: axes.length });
  return fc.tuple(orders, fc.nat(3)).map(([order, gap]) => {
    const strides: number[] = [];
    let distance = 1;
    [...order].reverse().forEach((axis, depth) => {
      strides[axis] = distance;
      distance = distance * Math.max(dimensions[axis]!, 1) + (depth === 0 ? gap : 0);
    });
    return { dimensions, strides };
  });
}

const extent = fc.integer({ min: 1, max: 19 });
/** None and one are often special cases in a library. */
const rowCount = fc.oneof(fc.constantFrom(0, 1), fc.integer({ min: 2, max: 40 }));
const products = fc
  .record({ batch: fc.integer({ min: 1, max: 3 }), m: rowCount, k: extent, n: extent, flat: fc.boolean() })
  .chain(({ batch, m, k, n, flat }) => {
    const outer = flat ? [] : [batch];
    return fc.record({
      left: arbitraryLayout([...outer, m, k]),
      right: arbitraryLayout([...outer, k, n]),
      result: arbitraryLayout([...outer, m, n], true),
      accumulate: fc.boolean(),
      seed: fc.nat(1000),
    });
  });

describe.each(providers)('products by $name', ({ create, operandType: type }) => {
  const provider = create();
  const weightType = type === 'f32' ? GgmlType.F32 : GgmlType.BF16;
  afterAll(() => provider.dispose());

  test('matmul of any strides, with and without a sum', () => {
    fc.assert(
      fc.property(products, ({ left, right, result, accumulate, seed }) => {
        fillExactly(leftValues, seed, type);
        fillExactly(rightValues, seed + 0.5, type);
        fill(cValues, seed + 0.25);
        store(leftValues, a, type);
        store(rightValues, b, type);
        const expected = multiplied(left, right, result, accumulate);
        const untouched = cValues.slice();
        provider.matmul({ ...left, type }, { ...right, type }, result, accumulate)(a, b, c);
        checkProducts(expected);
        untouched.forEach((value, offset) => {
          if (!expected.has(offset) && cValues[offset] !== value) throw new Error(`wrote to offset ${offset}`);
        });
      }),
      { numRuns: 60 },
    );
  });

  test('products less an offset for each column, and scaled', () => {
    const [rows, columns, inner] = [21, 33, 64];
    const [left, right] = [dense([rows, inner], type), { dimensions: [inner, columns], strides: [1, inner], type }];
    const result = dense([rows, columns]);
    storeFactors(12, type);
    fill(dValues, 14);
    fill(eValues, 15);
    const products = multiplied(left, right, result, false);
    const expected = (index: number, scales: boolean) =>
      (products.get(index)! - dValues[index % columns]!) * (scales ? eValues[index]! : 1);
    for (const scales of [false, true]) {
      provider.offsetMatmul(left, right, result, scales)(a, b, c, d, e);
      for (let index = 0; index < rows * columns; index++) expect(cValues[index]).toBeCloseTo(expected(index, scales), 3);
      provider.offsetMatmul(left, right, dense([rows, columns], type), scales)(a, b, c, d, e);
      checkOperands(c, rows * columns, type, (index) => expected(index, scales), 1e-3);
    }
    provider.offsetMatmul({ ...left, dimensions: [0, inner] }, right, dense([0, columns]))(a, b, c, d);
  });

  test('copies into another order', () => {
    const dimensions = fc.array(extent, { minLength: 1, maxLength: 4 }).filter((list) => list.reduce((x, y) => x * y, 1) < 5000);
    const copies = dimensions.chain((list) => fc.record({ source: arbitraryLayout(list), target: arbitraryLayout(list) }));
    fc.assert(
      fc.property(copies, ({ source, target }) => {
        fill(aValues, 1);
        provider.copy(source, target)(a, b);
        for (const index of indices(source.dimensions)) {
          expect(bValues[offsetOf(target, index)]).toBe(aValues[offsetOf(source, index)]);
        }
      }),
      { numRuns: 40 },
    );
  });

  test('values become operands', () => {
    fc.assert(
      fc.property(rowCount, extent, (rows, columns) => {
        fill(aValues, 1);
        provider.copy(dense([rows, columns]), dense([rows, columns], type))(a, b);
        const stored = new Uint16Array(viewMemory(b, rows * columns * 4));
        for (let i = 0; i < rows * columns; i++) {
          const bits = Uint16Array.of(0, stored[i]!);
          const value = type === 'f32' ? bValues[i]! : new Float32Array(bits.buffer)[0]!;
          // bf16 has eight bits, to the nearest.
          expect(Math.abs(value - aValues[i]!)).toBeLessThanOrEqual(type === 'f32' ? 0 : Math.abs(aValues[i]!) / 256);
        }
      }),
      { numRuns: 20 },
    );
  });

  test('linear layers in both directions', () => {
    // Only weights in f32 have gaps.
    const gap = type === 'f32' ? fc.integer({ min: 0, max: 17 }) : fc.constant(0);
    const shapes = fc.record({ tokens: rowCount, inputs: extent, outputs: extent, gap });
    fc.assert(
      fc.property(shapes, ({ tokens, inputs, outputs, gap }) => {
        fillExactly(leftValues, 2, type);
        fillExactly(rightValues, 3, type);
        const distance = inputs + gap;
        const rowBytes = gap > 0 ? distance * OPERAND_BYTES[type] : undefined;
        const shape = { inputs, outputs, type: weightType, transposedType: weightType, rowBytes };
        const transposedAddress = b + BigInt(distance * outputs * OPERAND_BYTES[type]);
        for (let row = 0; row < outputs; row++) {
          for (let column = 0; column < inputs; column++) {
            rightValues[distance * outputs + column * outputs + row] = rightValues[row * distance + column]!;
          }
        }
        store(leftValues, a, type);
        store(rightValues, b, type);
        const weight = { address: b, transposedAddress };
        const layout = { dimensions: [inputs, outputs], strides: [1, distance] };
        const transposedLayout = { dimensions: [outputs, inputs], strides: [distance, 1] };
        provider.linear(shape, tokens)(weight, a, c);
        checkProducts(multiplied(dense([tokens, inputs]), layout, dense([tokens, outputs]), false));
        const [dy, dx] = [dense([tokens, outputs]), dense([tokens, inputs])];
        for (const accumulate of [false, true]) {
          const expected = multiplied(dy, transposedLayout, dx, accumulate);
          provider.linearBackward(shape, tokens, accumulate)(weight, a, c);
          checkProducts(expected);
        }
      }),
      { numRuns: 40 },
    );
  });

  test('the forward product of many outputs', () => {
    const [tokens, inputs, outputs] = [3, 5, 2_501];
    storeFactors(21, type);
    const shape = { inputs, outputs, type: weightType, transposedType: undefined };
    provider.linear(shape, tokens)({ address: b, transposedAddress: undefined }, a, c);
    const weight = { dimensions: [inputs, outputs], strides: [1, inputs] };
    checkProducts(multiplied(dense([tokens, inputs]), weight, dense([tokens, outputs]), false));
  });

  test('the backward product of as many outputs as a vocabulary has', () => {
    const [tokens, inputs, outputs] = [2, 1, 20_001];
    fillExactly(leftValues, 7, type);
    fillExactly(rightValues, 8, type);
    // With one input, the transposed copy is the same.
    store(leftValues, a, type);
    store(rightValues, b, type);
    const shape = { inputs, outputs, type: weightType, transposedType: weightType };
    for (const accumulate of [false, true]) {
      const before = cValues.slice(0, tokens);
      provider.linearBackward(shape, tokens, accumulate)({ address: b, transposedAddress: b }, a, c);
      for (let token = 0; token < tokens; token++) {
        let expected = accumulate ? before[token]! : 0;
        for (let output = 0; output < outputs; output++) expected += leftValues[token * outputs + output]! * rightValues[output]!;
        expect(Math.abs(cValues[token]! - expected)).toBeLessThan(0.05);
      }
    }
  });

  test('products of many columns', () => {
    const [queries, keys, scores] = [dense([16, 64], type), { dimensions: [64, 640], strides: [1, 64], type }, dense([16, 640])];
    storeFactors(9, type);
    for (const accumulate of [false, true]) {
      fill(cValues, 11);
      const expected = multiplied(queries, keys, scores, accumulate);
      provider.matmul(queries, keys, scores, accumulate)(a, b, c);
      checkProducts(expected);
    }
  });

  test('scores of many keys, by the matrix unit where there is one', () => {
    const attention = create();
    const [keys, queries, scores] = [dense([640, 64], type), { dimensions: [64, 16], strides: [1, 64], type }, dense([640, 16])];
    storeFactors(9, type);
    fill(dValues, 11);
    const expected = multiplied(keys, queries, scores, false);
    attention.offsetMatmul(keys, queries, scores)(a, b, c, d);
    for (const [offset, value] of expected) expect(cValues[offset]).toBeCloseTo(value - dValues[offset % 16]!, 3);
    const square = dense([128, 128], type);
    provider.matmul(square, square, dense([128, 128]));
    const hasMatrixUnit = [...provider.implementations].some((name) => name.includes('amx'));
    if (hasMatrixUnit) expect([...attention.implementations].filter((name) => !name.includes('amx'))).toEqual([]);
    attention.dispose();
  });

  test('softmax of rows', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 70 }), (rows, columns) => {
        fill(aValues, 4);
        if (columns > 2) aValues[1] = Number.NEGATIVE_INFINITY;
        const input = aValues.slice(0, rows * columns);
        provider.softmax(rows, columns)(a, a);
        for (let row = 0; row < rows; row++) {
          const values = input.subarray(row * columns, (row + 1) * columns);
          const total = values.reduce((sum, value) => sum + Math.exp(value), 0);
          values.forEach((value, column) => {
            expect(aValues[row * columns + column]).toBeCloseTo(Math.exp(value) / total, 5);
          });
        }
      }),
      { numRuns: 40 },
    );
  });

  test('powers of e, of −∞ too', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2000 }), (count) => {
        fill(aValues, 16);
        for (let index = 0; index < count; index += 3) aValues[index] = Number.NEGATIVE_INFINITY;
        const input = aValues.slice(0, count);
        provider.exp(count)(a, a);
        input.forEach((value, index) => {
          expect(aValues[index]).toBeCloseTo(Math.exp(value), 5);
        });
      }),
      { numRuns: 40 },
    );
  });

  test('rows divided by values of their own', () => {
    fc.assert(
      fc.property(rowCount, fc.integer({ min: 1, max: 70 }), (rows, columns) => {
        fill(aValues, 19);
        fill(bValues, 20);
        const input = aValues.slice(0, rows * columns);
        provider.divideRows(rows, columns)(a, b);
        input.forEach((value, index) => {
          const expected = value / bValues[Math.floor(index / columns)]!;
          expect(Math.abs(aValues[index]! / expected - 1)).toBeLessThan(1e-5);
        });
      }),
      { numRuns: 40 },
    );
  });

  test('dot products of rows', () => {
    fc.assert(
      fc.property(rowCount, fc.integer({ min: 1, max: 70 }), (rows, columns) => {
        fill(aValues, 17);
        fillExactly(rightValues, 18, type);
        store(rightValues, b, type);
        provider.rowDots(rows, columns)(a, b, c, scratch);
        for (let row = 0; row < rows; row++) {
          let sum = 0;
          for (let i = row * columns; i < (row + 1) * columns; i++) sum += aValues[i]! * rightValues[i]!;
          expect(cValues[row]).toBeCloseTo(sum, 3);
        }
      }),
      { numRuns: 40 },
    );
  });

  test('gradients of gated units', () => {
    const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 300 }), (count) => {
        fill(aValues, 5);
        fill(bValues, 6);
        fill(cValues, 7);
        provider.gatedBackward(count)(a, b, c, d, e, scratch);
        checkOperands(e, count, type, (i) => aValues[i]! * bValues[i]! * sigmoid(bValues[i]!));
        checkOperands(d, count, type, (i) => {
          const s = sigmoid(bValues[i]!);
          return aValues[i]! * cValues[i]! * s * (1 + bValues[i]! * (1 - s));
        });
      }),
      { numRuns: 20 },
    );
  });

  test('gradients of gated units that are far from zero', () => {
    bValues.set([-1e4, -200, -90, 90, 200, 1e4]);
    cValues.fill(0.7, 0, 6);
    aValues.fill(0.1, 0, 6);
    provider.gatedBackward(6)(a, b, c, d, e, scratch);
    checkOperands(d, 6, type, (i) => (bValues[i]! > 0 ? 0.07 : 0));
    checkOperands(e, 6, type, (i) => 0.1 * Math.max(bValues[i]!, 0));
  });

  test('norms of rows and their gradients', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 70 }), fc.boolean(), (rows, columns, adds) => {
        const epsilon = 1e-3;
        const [x, weight, gradient, other, result] = [aValues, bValues, cValues, dValues, views[5]!];
        for (const [seed, values] of [x, weight, gradient, other].entries()) fill(values, seed);
        const shape = { rows, columns, epsilon };
        // Without a sum the first address is that of x; with one, x is the sum of what lies at d and f.
        const xs = x.slice(0, rows * columns);
        if (adds) {
          const halves = xs.map((value) => value / 2);
          other.set(halves);
          result.set(halves);
          x.fill(0);
          provider.norm(shape, true)(d, b, g, e, scratch, f, a);
          for (let i = 0; i < xs.length; i++) expect(x[i]).toBe(xs[i]);
          fill(other, 3);
        } else provider.norm(shape)(a, b, g, e, scratch);
        const rowOf = (i: number) => Math.floor(i / columns);
        const meanOf = (row: number, value: (i: number) => number) => {
          let sum = 0;
          for (let i = row * columns; i < (row + 1) * columns; i++) sum += value(i);
          return sum / columns;
        };
        const factor = (row: number) => 1 / Math.sqrt(meanOf(row, (i) => x[i]! ** 2) + epsilon);
        checkOperands(e, rows * columns, type, (i) => x[i]! * weight[i % columns]! * factor(rowOf(i)));
        provider.normBackward(shape, adds)(c, b, a, g, f, scratch, d);
        for (let i = 0; i < rows * columns; i++) {
          const [row, r] = [rowOf(i), factor(rowOf(i))];
          const mean = meanOf(row, (k) => gradient[k]! * weight[k % columns]! * x[k]!);
          const own = r * (gradient[i]! * weight[i % columns]! - x[i]! * r * r * mean);
          expect(result[i]).toBeCloseTo(own + (adds ? other[i]! : 0), 3);
        }
      }),
      { numRuns: 40 },
    );
  });

  test('no kernel of the usual shapes is reference code', () => {
    const usual = create();
    const shape = { inputs: 576, outputs: 1536, type: weightType, transposedType: weightType };
    usual.linear(shape, 256);
    usual.linearBackward(shape, 256, true);
    // A tile of the attention: queries · keysᵀ, scores · values and scoresᵀ · queries.
    const [queries, keys, scores] = [dense([192, 64], type), dense([256, 64], type), dense([192, 256], type)];
    usual.matmul(queries, { dimensions: [64, 256], strides: [1, 64], type }, dense([192, 256]));
    usual.matmul(scores, keys, dense([192, 64]));
    usual.matmul({ dimensions: [256, 192], strides: [1, 256], type }, queries, dense([256, 64]), true);
    usual.softmax(192, 256);
    usual.offsetMatmul(keys, { dimensions: [64, 192], strides: [1, 64], type }, dense([256, 192]));
    usual.offsetMatmul(keys, { dimensions: [64, 192], strides: [1, 64], type }, dense([256, 192], type), true);
    usual.matmul({ dimensions: [192, 256], strides: [1, 192], type }, keys, dense([192, 64]));
    usual.exp(192 * 256);
    usual.matmul(dense([1, 64], type), { dimensions: [64, 192], strides: [1, 64], type }, dense([1, 192]));
    usual.matmul(dense([1, 256]), dense([256, 192]), dense([1, 192]));
    usual.divideRows(192, 64);
    usual.rowDots(512, 64);
    usual.gatedBackward(1 << 15);
    usual.norm({ rows: 56, columns: 576, epsilon: 1e-5 });
    usual.normBackward({ rows: 56, columns: 576, epsilon: 1e-5 }, true);
    expect([...usual.implementations].filter((name) => /\bref\b/.test(name))).toEqual([]);
    usual.dispose();
  });
});
