/** In which type the factors of products are kept. Results are f32. */
export type OperandType = 'f32' | 'bf16';

export const OPERAND_BYTES: Readonly<Record<OperandType, number>> = { f32: 4, bf16: 2 };

/** Memory as a product sees it: dimensions outermost first, strides in elements. */
export interface Layout {
  readonly dimensions: readonly number[];
  readonly strides: readonly number[];
  /** f32 unless something else is said. */
  readonly type?: OperandType;
}

/** Does its work on the memory at the given addresses, in the calling thread. */
export type Kernel = (...addresses: readonly bigint[]) => void;

/** A frozen matrix in memory, [outputs, inputs] row-major, and where a provider needs it its transposed copy. */
export interface FrozenOperand {
  readonly address: bigint;
  readonly transposedAddress: bigint | undefined;
}

/** What frozen matrices of one kind have in common. */
export interface FrozenShape {
  readonly inputs: number;
  readonly outputs: number;
  /** `enum ggml_type` of the weights. */
  readonly type: number;
  /** `enum ggml_type` of the transposed copy. */
  readonly transposedType: number | undefined;
}

/** A product with a frozen matrix: from the activations or gradients at one address to those at another. */
export type LinearKernel = (weight: FrozenOperand, from: bigint, to: bigint) => void;

/**
 * Who multiplies: the products and the few other operations of a training step that a library may do faster than ggml. Every
 * method makes a kernel for fixed shapes once; the kernel runs on any memory of the process. One thread uses one provider.
 */
export interface Products {
  /** For example `oneDNN 3.2.0`. */
  readonly name: string;
  readonly operandType: OperandType;
  /** What the library says of the code behind each kind of kernel. */
  readonly implementations: ReadonlySet<string>;
  /** Memory that the kernels made so far need beside their operands, in bytes. */
  readonly scratchBytes: number;
  /** y [tokens, outputs] = x [tokens, inputs] · Wᵀ, x in the operand type. */
  linear(shape: FrozenShape, tokens: number): LinearKernel;
  /** dx [tokens, inputs] = dy [tokens, outputs] · W, or dx += dy · W. dy in the operand type. */
  linearBackward(shape: FrozenShape, tokens: number, accumulate?: boolean): LinearKernel;
  /** c [.., m, n] = a [.., m, k] · b [.., k, n], or c += a · b; the innermost stride of c is 1. Addresses: a, b, c. */
  matmul(a: Layout, b: Layout, c: Layout, accumulate?: boolean): Kernel;
  /** Copies, with another order in memory or another type. Up to four dimensions. Addresses: source, target. */
  copy(source: Layout, target: Layout): Kernel;
  /** Softmax over each of `rows` rows of `columns` f32 values. Addresses: x, y, which may be the same. */
  softmax(rows: number, columns: number): Kernel;
  /** c = a · b for `count` f32 values. Addresses: a, b, c. */
  multiply(count: number): Kernel;
  /** y = x · sigmoid(x). Addresses: x, y. */
  swish(count: number): Kernel;
  /** Addresses: x, the gradient of y = swish(x), the gradient of x. */
  swishBackward(count: number): Kernel;
  dispose(): void;
}

/** A layout without gaps. */
export function dense(dimensions: readonly number[], type: OperandType = 'f32'): Layout {
  const strides = dimensions.map((_, axis) => dimensions.slice(axis + 1).reduce((product, extent) => product * extent, 1));
  return { dimensions, strides, type };
}

export function isEmpty({ dimensions }: Layout): boolean {
  return dimensions.includes(0);
}
