import type { Afterwards, OneDnnKernels } from './onednn-kernels.js';
import { rounding } from './onednn-rounding.js';
import { dense, type Kernel, type NormShape, OPERAND_BYTES, type OperandType } from './products.js';

/** y = x · r · weight with r = 1 / √(mean(x²) + ε), which is kept. */
export function oneDnnNorm(
  kernels: OneDnnKernels,
  operandType: OperandType,
  { rows, columns, epsilon }: NormShape,
  adds: boolean,
): Kernel {
  const [matrix, byRow, byColumn] = [dense([rows, columns]), dense([rows, 1]), dense([1, columns])];
  const add = kernels.binary('add', matrix, matrix, matrix);
  const square = kernels.binary('multiply', matrix, matrix, matrix);
  const inverseRoot = sumOfRows(kernels, rows, columns, [
    { kind: 'linear', scale: 1 / columns, shift: epsilon },
    { kind: 'inverse root' },
  ]);
  const scale = kernels.binary('multiply', matrix, byRow, matrix, [{ kind: 'multiply', operand: byColumn }]);
  const round = rounding(kernels, operandType, rows * columns);
  return (...[first, weight, factors, result, scratch, second, sum]) => {
    const x = adds ? sum! : first!;
    if (adds) add(first!, second!, x);
    square(x, x, scratch!);
    inverseRoot(scratch!, factors!);
    const target = round.targetOf(result!, scratch!);
    scale(x, factors!, target, weight!);
    round.run(target, result!);
  };
}

/** With t = dy · weight, dx = r · (t − x · r² · mean(t · x)), and what is to be added. */
export function oneDnnNormBackward(kernels: OneDnnKernels, { rows, columns }: NormShape, adds: boolean): Kernel {
  const [matrix, byRow, byColumn] = [dense([rows, columns]), dense([rows, 1]), dense([1, columns])];
  // As a third dimension, rows are what oneDNN calls channels: what comes after an operation may differ between those.
  const [channels, byChannel] = [dense([1, rows, columns]), dense([1, rows, 1])];
  const weigh = kernels.binary('multiply', matrix, byColumn, matrix);
  const multiply = kernels.binary('multiply', matrix, matrix, matrix);
  const project = sumOfRows(kernels, rows, columns, [
    { kind: 'linear', scale: -1 / columns, shift: 0 },
    { kind: 'multiply', operand: byRow },
    { kind: 'multiply', operand: byRow },
  ]);
  const finish = kernels.binary('multiply', channels, byChannel, channels, [
    { kind: 'add', operand: channels },
    { kind: 'multiply', operand: byChannel },
    ...(adds ? [{ kind: 'add', operand: channels } as const] : []),
  ]);
  const blockBytes = BigInt(rows * columns * OPERAND_BYTES.f32);
  return (...[gradient, weight, x, factors, result, scratch, ...other]) => {
    const [weighed, product, projections] = [scratch!, scratch! + blockBytes, scratch! + 2n * blockBytes];
    weigh(gradient!, weight!, weighed);
    multiply(weighed, x!, product);
    project(product, projections, factors!, factors!);
    finish(x!, projections, result!, weighed, factors!, ...other);
  };
}

/** Σ a ∘ b over each row. */
export function oneDnnRowDots(kernels: OneDnnKernels, operandType: OperandType, rows: number, columns: number): Kernel {
  const matrix = dense([rows, columns]);
  const multiply = kernels.binary('multiply', matrix, dense([rows, columns], operandType), matrix);
  const sum = sumOfRows(kernels, rows, columns, []);
  return (...[a, b, sums, scratch]) => {
    multiply(a!, b!, scratch!);
    sum(scratch!, sums!);
  };
}

/** The sum of each row, as a product with ones: oneDNN's reductions take longer. Addresses: values, sums. */
function sumOfRows(kernels: OneDnnKernels, rows: number, columns: number, after: readonly Afterwards[]): Kernel {
  const product = kernels.matmul(dense([rows, columns]), dense([columns, 1]), dense([rows, 1]), after);
  const ones = kernels.ones(columns);
  return (values, sums, ...operands) => product(values!, ones, sums!, ...operands);
}
