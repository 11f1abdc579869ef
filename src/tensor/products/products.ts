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
  /** Distance of the rows in memory, where they may have gaps; only weights in f32 have it. */
  readonly rowBytes?: number | undefined;
}

/** A product with a frozen matrix: from the activations or gradients at one address to those at another. */
export type LinearKernel = (weight: FrozenOperand, from: bigint, to: bigint) => void;

/** What is normed: each of some rows. */
export interface NormShape {
  readonly rows: number;
  readonly columns: number;
  readonly epsilon: number;
}

/** Blocks of the results' size that an element-wise kernel needs as scratch memory, f32. */
export const SCRATCH_BLOCKS = 3;

/**
 * Who multiplies: the products and the few other operations of a training step that a library may do faster than ggml. Every
 * method makes a kernel for fixed shapes once; the kernel runs on any memory of the process. One thread uses one provider.
 *
 * Element-wise kernels pass over their values several times, so they are fastest on as many as a core's cache holds, and need
 * scratch memory ({@link SCRATCH_BLOCKS}).
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
  /**
   * c [m, n] = a [m, k] · b [k, n] − offsets, one for each column; with `scales`, (a · b − offsets) ∘ factors. c has no gaps and is of any
   * operand type; offsets [n] and factors [m, n] are f32. Addresses: a, b, c, offsets, factors.
   */
  offsetMatmul(a: Layout, b: Layout, c: Layout, scales?: boolean): Kernel;
  /** Copies, with another order in memory or another type. Up to four dimensions. Addresses: source, target. */
  copy(source: Layout, target: Layout): Kernel;
  /** Softmax over each of `rows` rows of `columns` f32 values. Addresses: x, y, which may be the same. */
  softmax(rows: number, columns: number): Kernel;
  /** eˣ of `count` f32 values. Addresses: x, y, which may be the same. */
  exp(count: number): Kernel;
  /** Divides each of `rows` rows of `columns` f32 values by a value of its own, in place. Addresses: values, f32 [rows]. */
  divideRows(rows: number, columns: number): Kernel;
  /** Σ a ∘ b over each of `rows` rows of `columns` values. Addresses: a in f32, b in the operand type, f32 [rows], scratch. */
  rowDots(rows: number, columns: number): Kernel;
  /**
   * The way back of y = swish(gate) · up, swish(x) = x / (1 + e⁻ˣ), for `count` values. Addresses: the gradient of y, gate, up, the
   * gradients of gate and up in the operand type, scratch.
   */
  gatedBackward(count: number): Kernel;
  /**
   * RMS norm (Zhang and Sennrich, 2019): y = x · weight / √(mean(x²) + ε) in each row. Addresses: x, weight, what the way back
   * wants to know of each row (f32 [rows]), y in the operand type, scratch. With `adds`, x is the sum of two, which is kept: the
   * first stands for x, and the other one and the place for the sum are the last addresses.
   */
  norm(shape: NormShape, adds?: boolean): Kernel;
  /**
   * The way back of {@link norm}; with `adds` a gradient that came past the norm is added. Addresses: the gradient of y, weight, x,
   * what is known of its rows, the gradient of x, scratch, the gradient to be added.
   */
  normBackward(shape: NormShape, adds?: boolean): Kernel;
  dispose(): void;
}

/** A layout without gaps. */
export function dense(dimensions: readonly number[], type: OperandType = 'f32'): Layout {
  const strides = dimensions.map((_, axis) => dimensions.slice(axis + 1).reduce((product, extent) => product * extent, 1));
  return { dimensions, strides, type };
}

/** The last two dimensions the other way round: a matrix read with its rows as columns. */
export function transposed(layout: Layout): Layout {
  const swap = (list: readonly number[]) => [...list.slice(0, -2), list.at(-1)!, list.at(-2)!];
  return { ...layout, dimensions: swap(layout.dimensions), strides: swap(layout.strides) };
}

export function isEmpty({ dimensions }: Layout): boolean {
  return dimensions.includes(0);
}
