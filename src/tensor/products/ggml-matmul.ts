import { GgmlType } from '../../native/ggml.js';
import type { GgmlTensor } from '../../native/handles.js';
import type { Placement, PointedGraphBuilder } from '../pointed-graph.js';
import { dense, type Layout, OPERAND_BYTES, type OperandType, transposed } from './products.js';

/** How ggml calls the types of operands. */
export const GGML_TYPES: Readonly<Record<OperandType, number>> = { f32: GgmlType.F32, bf16: GgmlType.BF16 };
const ALIGNMENT = 64;

/** The slots of a product: both factors and the result; then come further operands, and the scratch memory between its operations. */
export const [A, B] = [0, 1] as const;
const C = 2;
const [OFFSETS, FACTORS] = [3, 4] as const;
const SCRATCH = 5;

/**
 * Adds c = a · b, or c += a · b, to a graph. ggml multiplies rows by rows, so a factor whose inner dimension is not the
 * innermost one in memory is copied first. Returns the bytes of scratch memory that the graph needs.
 */
export function addMatmul(builder: PointedGraphBuilder, a: Layout, b: Layout, c: Layout, accumulate: boolean): number {
  const product = new ScratchProduct(builder);
  product.store(product.multiply(a, b), c, accumulate);
  return product.scratchBytes;
}

/** Adds c = a · b − offsets, or (a · b − offsets) ∘ factors, to a graph. Returns the bytes of scratch memory that it needs. */
export function addOffsetMatmul(builder: PointedGraphBuilder, a: Layout, b: Layout, c: Layout, scales: boolean): number {
  const { ggml, context } = builder;
  const [rows, columns] = c.dimensions as [number, number];
  const product = new ScratchProduct(builder);
  const isF32 = (c.type ?? 'f32') === 'f32';
  const between = isF32 ? { slot: C, offset: 0 } : product.take(dense(c.dimensions));
  const inPlace = (node: GgmlTensor) => builder.result(between.slot, node, { offset: between.offset });
  const multiplied = inPlace(product.multiply(a, b));
  let values = inPlace(ggml.ggml_sub(context, multiplied, builder.input(OFFSETS, [columns])));
  if (scales) values = inPlace(ggml.ggml_mul(context, values, builder.input(FACTORS, [columns, rows])));
  if (!isF32) {
    const { dimensions, placement } = placed(c);
    builder.result(C, ggml.ggml_cpy(context, values, builder.input(C, dimensions, placement)), placement);
  }
  return product.scratchBytes;
}

/** A layout as ggml places it: dimensions innermost first. */
export function placed(layout: Layout): { dimensions: number[]; placement: Placement } {
  const type = layout.type ?? 'f32';
  const dimensions = [...layout.dimensions].reverse();
  const strides = [...layout.strides].reverse().map((stride) => stride * OPERAND_BYTES[type]);
  // A dimension of one element has no neighbours, but ggml wants a first one without gaps.
  if (dimensions[0] === 1) strides[0] = OPERAND_BYTES[type];
  while (strides.length < 4) strides.push(strides.at(-1)! * (dimensions[strides.length - 1] ?? 1));
  return { dimensions, placement: { type: GGML_TYPES[type], strides } };
}

/** The operations of one product, which take what they need of the scratch memory one after the other. */
export class ScratchProduct {
  scratchBytes = 0;
  readonly #builder: PointedGraphBuilder;

  constructor(builder: PointedGraphBuilder) {
    this.#builder = builder;
  }

  /** a · b, which is still to be given a place. ggml multiplies rows by rows. */
  multiply(a: Layout, b: Layout): GgmlTensor {
    const left = this.#withInnerFirst(A, a);
    const right = this.#withInnerFirst(B, transposed(b));
    return this.#builder.ggml.ggml_mul_mat(this.#builder.context, right, left);
  }

  /** The factor [.., rows, inner] in a slot, copied when its inner dimension has gaps. */
  #withInnerFirst(slot: number, layout: Layout): GgmlTensor {
    const { dimensions, placement } = placed(layout);
    const factor = this.#builder.input(slot, dimensions, placement);
    if (layout.strides.at(-1) === 1 || dimensions[0] === 1) return factor;
    const { ggml, context } = this.#builder;
    return this.#toScratch(ggml.ggml_cont(context, factor), layout);
  }

  /** Puts a product where `c` lies, or adds it to what lies there. */
  store(product: GgmlTensor, c: Layout, accumulate: boolean): void {
    const { ggml, context } = this.#builder;
    const { dimensions, placement } = placed(c);
    if (!accumulate && ascend(placement.strides!)) {
      this.#builder.result(C, product, placement);
      return;
    }
    const stored = this.#toScratch(product, c);
    const target = this.#builder.input(C, dimensions, placement);
    if (accumulate) this.#builder.result(C, ggml.ggml_add(context, target, stored), placement);
    else this.#builder.result(C, ggml.ggml_cpy(context, stored, target), placement);
  }

  /** A place in the scratch memory for values of this layout. */
  take({ dimensions, type = 'f32' }: Layout): { slot: number; offset: number } {
    const offset = this.scratchBytes;
    const bytes = dimensions.reduce((product, extent) => product * extent, OPERAND_BYTES[type]);
    this.scratchBytes += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return { slot: SCRATCH, offset };
  }

  #toScratch(node: GgmlTensor, layout: Layout): GgmlTensor {
    const { slot, offset } = this.take(layout);
    return this.#builder.result(slot, node, { offset });
  }
}

/** ggml's product writes to any strides that do not fall from one dimension to the next. */
function ascend(strides: readonly number[]): boolean {
  return strides.every((stride, axis) => axis === 0 || stride >= strides[axis - 1]!);
}
