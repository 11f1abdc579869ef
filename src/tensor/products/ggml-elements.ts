import { GgmlType } from '../../native/ggml.js';
import type { GgmlTensor } from '../../native/handles.js';
import type { PointedGraphBuilder } from '../pointed-graph.js';
import type { NormShape } from './products.js';

/** Element-wise kernels of {@link Products} as ggml's operations; each takes its addresses as slots in the order given there. */

/** Slots: the gradient of y, gate, up, the gradients of gate and of up, scratch. */
export function addGatedBackward(g: PointedGraphBuilder, count: number, operandType: number): void {
  const { ggml, context } = g;
  const [gradient, gate, up] = inputs(g, [0, 1, 2], [count]);
  const scratch = (block: number): Scratch => ({ slot: 5, block });
  const ofSwish = toScratch(g, scratch(0), [count], ggml.ggml_mul(context, gradient!, up!));
  store(g, 3, [count], operandType, scratch(1), ggml.ggml_silu_back(context, ofSwish, gate!));
  const swish = toScratch(g, scratch(0), [count], ggml.ggml_silu(context, gate!));
  store(g, 4, [count], operandType, scratch(1), ggml.ggml_mul(context, gradient!, swish));
}

/** Slots: x or the first summand, weight, what is known of the rows (ggml keeps nothing), y, scratch, second summand, sum. */
export function addNorm(g: PointedGraphBuilder, shape: NormShape, operandType: number, adds: boolean): void {
  const { ggml, context } = g;
  const matrix = [shape.columns, shape.rows];
  const first = g.input(0, matrix);
  const x = adds ? g.result(6, ggml.ggml_add(context, first, g.input(5, matrix))) : first;
  const normed = toScratch(g, { slot: 4, block: 0 }, matrix, ggml.ggml_rms_norm(context, x, shape.epsilon));
  store(g, 3, matrix, operandType, { slot: 4, block: 1 }, ggml.ggml_mul(context, normed, g.input(1, [shape.columns])));
}

/** Slots: the gradient of y, weight, x, what is known of its rows, the gradient of x, scratch, the gradient to be added. */
export function addNormBackward(g: PointedGraphBuilder, { rows, columns, epsilon }: NormShape, adds: boolean): void {
  const { ggml, context } = g;
  const matrix = [columns, rows];
  const [gradient, x] = inputs(g, [0, 2], matrix);
  const weighed = toScratch(g, { slot: 5, block: 0 }, matrix, ggml.ggml_mul(context, gradient!, g.input(1, [columns])));
  const ofX = ggml.ggml_rms_norm_back(context, weighed, x!, epsilon);
  if (adds) {
    const summand = toScratch(g, { slot: 5, block: 1 }, matrix, ofX);
    g.result(4, ggml.ggml_add(context, summand, g.input(6, matrix)));
  } else g.result(4, ofX);
}

/** Slots: a, b in the operand type, Σ a ∘ b of each row, scratch. */
export function addRowDots(g: PointedGraphBuilder, rows: number, columns: number, operandType: number): void {
  const { ggml, context } = g;
  const matrix = [columns, rows];
  const scratch = { slot: 3, block: 0 };
  const operands = g.input(1, matrix, { type: operandType });
  const toF32 = () => toScratch(g, scratch, matrix, ggml.ggml_cpy(context, operands, g.input(scratch.slot, matrix)));
  const b = operandType === GgmlType.F32 ? operands : toF32();
  const products = toScratch(g, scratch, matrix, ggml.ggml_mul(context, g.input(0, matrix), b));
  g.result(2, ggml.ggml_sum_rows(context, products));
}

/** A place in the scratch memory, counted in blocks of the result's size. */
interface Scratch {
  slot: number;
  block: number;
}

function inputs(g: PointedGraphBuilder, slots: readonly number[], dimensions: readonly number[]): GgmlTensor[] {
  return slots.map((slot) => g.input(slot, dimensions));
}

function toScratch(
  g: PointedGraphBuilder,
  { slot, block }: Scratch,
  dimensions: readonly number[],
  node: GgmlTensor,
): GgmlTensor {
  const bytes = dimensions.reduce((product, extent) => product * extent, Float32Array.BYTES_PER_ELEMENT);
  return g.result(slot, node, { offset: block * bytes });
}

/** Puts f32 values into a slot in the operand type. */
function store(
  g: PointedGraphBuilder,
  slot: number,
  dimensions: readonly number[],
  operandType: number,
  scratch: Scratch,
  node: GgmlTensor,
): void {
  if (operandType === GgmlType.F32) {
    g.result(slot, node);
    return;
  }
  const values = toScratch(g, scratch, dimensions, node);
  g.result(slot, g.ggml.ggml_cpy(g.context, values, g.input(slot, dimensions, { type: operandType })));
}
