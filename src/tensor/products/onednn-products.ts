import { CartridgesError } from '../../core/errors.js';
import { GgmlType } from '../../native/ggml.js';
import type { OneDnnLibrary } from '../../native/onednn/library.js';
import { oneDnnGatedBackward } from './onednn-gates.js';
import { OneDnnKernels } from './onednn-kernels.js';
import { oneDnnNorm, oneDnnNormBackward, oneDnnRowDots } from './onednn-norms.js';
import {
  dense,
  type FrozenShape,
  type Kernel,
  type Layout,
  type LinearKernel,
  type NormShape,
  OPERAND_BYTES,
  type OperandType,
  type Products,
} from './products.js';

const WEIGHT_TYPES: Readonly<Record<OperandType, number>> = { f32: GgmlType.F32, bf16: GgmlType.BF16 };

/**
 * Most values that one product sums up, for an output. oneDNN 3.2 sums up the 49,152 of a vocabulary in 32.6 ms at once and in 29.0
 * ms in parts of 24,576 or fewer (256 rows of 576, bf16, Zen 5).
 */
const LONGEST_SUM = 16_384;
/**
 * Most outputs that one product in f32 gives. The 49,152 of a vocabulary for 256 rows of 576 are made at 56 GFLOPS at once and at 72 in
 * such parts, 3,072 of 1,024 at 69 and 76 (AVX2, Zen 3, one core).
 */
const WIDEST_RESULT = 1_024;
/** Parts of a matrix begin at a multiple of so many values. */
const PART_MULTIPLE = 64;

/** Products by oneDNN. The same copy of a frozen matrix serves both directions, read with other strides. */
export class OneDnnProducts implements Products {
  readonly name: string;
  readonly operandType: OperandType;
  /** oneDNN keeps its own, a few MiB. */
  readonly scratchBytes = 0;
  readonly #kernels: OneDnnKernels;

  constructor(library: OneDnnLibrary, operandType: OperandType) {
    this.#kernels = new OneDnnKernels(library);
    this.name = `oneDNN ${library.version}`;
    this.operandType = operandType;
  }

  get implementations(): ReadonlySet<string> {
    return this.#kernels.implementations;
  }

  linear(shape: FrozenShape, tokens: number): LinearKernel {
    const { inputs, outputs, rowValues } = this.#checked(shape);
    const type = this.operandType;
    // A vocabulary has many parts, all but the last of one length.
    const products = new Map<number, Kernel>();
    const parts = partsOf(outputs, type === 'f32' ? WIDEST_RESULT : outputs).map(({ start, length }) => {
      const weight = { dimensions: [inputs, length], strides: [1, rowValues], type };
      const result = { dimensions: [tokens, length], strides: [outputs, 1] };
      const product = products.get(length) ?? this.matmul(dense([tokens, inputs], type), weight, result);
      products.set(length, product);
      const weightBytes = BigInt(start * rowValues * OPERAND_BYTES[type]);
      return { product, weightBytes, resultBytes: BigInt(start * OPERAND_BYTES.f32) };
    });
    return ({ address }, x, y) => {
      for (const { product, weightBytes, resultBytes } of parts) product(x, address + weightBytes, y + resultBytes);
    };
  }

  linearBackward(shape: FrozenShape, tokens: number, accumulate = false): LinearKernel {
    const { inputs, outputs, rowValues } = this.#checked(shape);
    const type = this.operandType;
    const valueBytes = OPERAND_BYTES[type];
    const parts = partsOf(outputs, LONGEST_SUM).map(({ start, length }) => {
      const gradient = { dimensions: [tokens, length], strides: [outputs, 1], type };
      const weight = { dimensions: [length, inputs], strides: [rowValues, 1], type };
      const product = this.matmul(gradient, weight, dense([tokens, inputs]), accumulate || start > 0);
      return { product, gradientBytes: BigInt(start * valueBytes), weightBytes: BigInt(start * rowValues * valueBytes) };
    });
    return ({ address }, dy, dx) => {
      for (const { product, gradientBytes, weightBytes } of parts) product(dy + gradientBytes, address + weightBytes, dx);
    };
  }

  matmul(a: Layout, b: Layout, c: Layout, accumulate = false): Kernel {
    return this.#kernels.matmul(a, b, c, accumulate ? [{ kind: 'add to result' }] : []);
  }

  offsetMatmul(a: Layout, b: Layout, c: Layout, scales = false): Kernel {
    const offsets = dense([1, c.dimensions[1]!]);
    const factors = { ...c, type: 'f32' } as const;
    const scaling = scales ? [{ kind: 'multiply', operand: factors } as const] : [];
    if (this.operandType !== 'f32') return this.#kernels.matmul(a, b, c, [{ kind: 'subtract', operand: offsets }, ...scaling]);
    // What comes after its products in f32 oneDNN 3.2 does in a pass that takes longer than an operation of its own (AVX2).
    const product = this.#kernels.matmul(a, b, c);
    const subtract = this.#kernels.binary('subtract', c, offsets, c, scaling);
    return (left, right, result, ...operands) => {
      product(left!, right!, result!);
      const [offset, ...others] = operands;
      subtract(result!, offset!, result!, ...others);
    };
  }

  copy(source: Layout, target: Layout): Kernel {
    return this.#kernels.copy(source, target);
  }

  softmax(rows: number, columns: number): Kernel {
    return this.#kernels.softmax(dense([rows, columns]));
  }

  exp(count: number): Kernel {
    return this.#kernels.element('exp', dense([count]));
  }

  divideRows(rows: number, columns: number): Kernel {
    const matrix = dense([rows, columns]);
    const divide = this.#kernels.binary('divide', matrix, dense([rows, 1]), matrix);
    return (values, divisors) => divide(values!, divisors!, values!);
  }

  rowDots(rows: number, columns: number): Kernel {
    return oneDnnRowDots(this.#kernels, this.operandType, rows, columns);
  }

  gatedBackward(count: number): Kernel {
    return oneDnnGatedBackward(this.#kernels, this.operandType, count);
  }

  norm(shape: NormShape, adds = false): Kernel {
    return oneDnnNorm(this.#kernels, this.operandType, shape, adds);
  }

  normBackward(shape: NormShape, adds = false): Kernel {
    return oneDnnNormBackward(this.#kernels, shape, adds);
  }

  dispose(): void {
    this.#kernels.dispose();
  }

  /** With the distance of the rows in values. */
  #checked(shape: FrozenShape): FrozenShape & { rowValues: number } {
    const { inputs, type, rowBytes } = shape;
    const rowValues = rowBytes === undefined ? inputs : rowBytes / OPERAND_BYTES[this.operandType];
    if (type === WEIGHT_TYPES[this.operandType]) return { ...shape, rowValues };
    throw new CartridgesError('INTERNAL', `the weights were loaded in another type than ${this.operandType}`);
  }
}

/** Parts of about the same length, as few as there can be. */
function partsOf(outputs: number, longest: number): { start: number; length: number }[] {
  const count = Math.ceil(outputs / longest);
  const length = Math.ceil(outputs / count / PART_MULTIPLE) * PART_MULTIPLE;
  return Array.from({ length: Math.ceil(outputs / length) }, (_, index) => {
    const start = index * length;
    return { start, length: Math.min(length, outputs - start) };
  });
}
