import { CartridgesError } from '../../core/errors.js';
import type { GgmlThread } from '../ggml-thread.js';
import { type Placement, PointedGraph, type PointedGraphBuilder } from '../pointed-graph.js';
import { addGatedBackward, addNorm, addNormBackward, addRowDots } from './ggml-elements.js';
import { A, addMatmul, addOffsetMatmul, B, GGML_TYPES, placed, ScratchProduct } from './ggml-matmul.js';
import {
  dense,
  type FrozenShape,
  isEmpty,
  type Kernel,
  type Layout,
  type LinearKernel,
  type NormShape,
  OPERAND_BYTES,
  type OperandType,
  type Products,
} from './products.js';
import { Scratch } from './scratch.js';

/** Products by ggml: always there, at the speed of the one-graph step. Frozen matrices need a transposed copy. */
export class GgmlProducts implements Products {
  readonly name = 'ggml';
  readonly operandType: OperandType;
  readonly implementations: ReadonlySet<string> = new Set(['matmul ggml']);
  readonly #thread: GgmlThread;
  readonly #scratch: Scratch;
  readonly #graphs: PointedGraph[] = [];

  constructor(thread: GgmlThread, operandType: OperandType = 'f32') {
    this.#thread = thread;
    this.#scratch = new Scratch(thread);
    this.operandType = operandType;
  }

  get scratchBytes(): number {
    return this.#scratch.byteLength;
  }

  linear({ inputs, outputs, type, rowBytes }: FrozenShape, tokens: number): LinearKernel {
    const spaced = (distance: number) => placed({ dimensions: [outputs, inputs], strides: [distance, 1] }).placement;
    const placement = rowBytes === undefined ? { type } : spaced(rowBytes / OPERAND_BYTES.f32);
    const product = this.#frozenProduct(inputs, outputs, placement, tokens, false);
    return ({ address }, x, y) => product(x, address, y);
  }

  linearBackward({ inputs, outputs, transposedType }: FrozenShape, tokens: number, accumulate = false): LinearKernel {
    if (transposedType === undefined) throw withoutTransposed();
    const product = this.#frozenProduct(outputs, inputs, { type: transposedType }, tokens, accumulate);
    return ({ transposedAddress }, dy, dx) => {
      if (transposedAddress === undefined) throw withoutTransposed();
      product(dy, transposedAddress, dx);
    };
  }

  matmul(a: Layout, b: Layout, c: Layout, accumulate = false): Kernel {
    return this.#kernelWithScratch(c, (builder) => addMatmul(builder, a, b, c, accumulate));
  }

  offsetMatmul(a: Layout, b: Layout, c: Layout, scales = false): Kernel {
    return this.#kernelWithScratch(c, (builder) => addOffsetMatmul(builder, a, b, c, scales));
  }

  copy(source: Layout, target: Layout): Kernel {
    return this.#kernel(source, (builder) => {
      const [from, to] = [placed(source), placed(target)];
      const x = builder.input(A, from.dimensions, from.placement);
      const y = builder.input(B, to.dimensions, to.placement);
      builder.result(B, builder.ggml.ggml_cpy(builder.context, x, y));
    });
  }

  softmax(rows: number, columns: number): Kernel {
    return this.#kernel(dense([rows, columns]), (builder) => {
      const x = builder.input(A, [columns, rows]);
      builder.result(B, builder.ggml.ggml_soft_max_ext(builder.context, x, null, 1, 0));
    });
  }

  exp(count: number): Kernel {
    return this.#kernel(dense([count]), (builder) => {
      builder.result(B, builder.ggml.ggml_exp(builder.context, builder.input(A, [count])));
    });
  }

  divideRows(rows: number, columns: number): Kernel {
    return this.#kernel(dense([rows, columns]), (builder) => {
      const [values, divisors] = [builder.input(A, [columns, rows]), builder.input(B, [1, rows])];
      builder.result(A, builder.ggml.ggml_div(builder.context, values, divisors));
    });
  }

  rowDots(rows: number, columns: number): Kernel {
    return this.#kernel(dense([rows, columns]), (builder) => addRowDots(builder, rows, columns, GGML_TYPES[this.operandType]));
  }

  gatedBackward(count: number): Kernel {
    return this.#kernel(dense([count]), (builder) => addGatedBackward(builder, count, GGML_TYPES[this.operandType]));
  }

  norm(shape: NormShape, adds = false): Kernel {
    const { rows, columns } = shape;
    return this.#kernel(dense([rows, columns]), (builder) => addNorm(builder, shape, GGML_TYPES[this.operandType], adds));
  }

  normBackward(shape: NormShape, adds = false): Kernel {
    const { rows, columns } = shape;
    return this.#kernel(dense([rows, columns]), (builder) => addNormBackward(builder, shape, adds));
  }

  dispose(): void {
    for (const graph of this.#graphs) graph.dispose();
    this.#scratch.dispose();
  }

  /** y [tokens, outputs] = x · Wᵀ for W [outputs, inputs] of any ggml type. Addresses: x, W, y. */
  #frozenProduct(inputs: number, outputs: number, placement: Placement, tokens: number, accumulate: boolean): Kernel {
    const y = dense([tokens, outputs]);
    return this.#kernelWithScratch(y, (builder) => {
      const x = builder.input(A, [inputs, tokens], { type: GGML_TYPES[this.operandType] });
      const weight = builder.input(B, [inputs, outputs], placement);
      const product = new ScratchProduct(builder);
      product.store(builder.ggml.ggml_mul_mat(builder.context, weight, x), y, accumulate);
      return product.scratchBytes;
    });
  }

  #kernel(layout: Layout, build: (builder: PointedGraphBuilder) => void): Kernel {
    return this.#kernelWithScratch(layout, (builder) => {
      build(builder);
      return 0;
    });
  }

  /** `build` returns the bytes of scratch memory that its graph needs. */
  #kernelWithScratch(layout: Layout, build: (builder: PointedGraphBuilder) => number): Kernel {
    if (isEmpty(layout)) return () => {};
    let scratchBytes = 0;
    const graph = new PointedGraph(this.#thread, (builder) => {
      scratchBytes = build(builder);
    });
    this.#graphs.push(graph);
    if (scratchBytes === 0) return (...addresses) => graph.run(...addresses);
    this.#scratch.reserve(scratchBytes);
    return (a, b, c, offsets = 0n, factors = 0n) => graph.run(a!, b!, c!, offsets, factors, this.#scratch.address);
  }
}

function withoutTransposed(): CartridgesError {
  return new CartridgesError('INTERNAL', 'the model was loaded without the copies that gradients need');
}
