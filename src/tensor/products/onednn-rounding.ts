import type { OneDnnKernels } from './onednn-kernels.js';
import { dense, type OperandType } from './products.js';

/** Where values are computed that become operands, and the rounding behind it. Addresses of `run`: values, operands. */
export interface Rounding {
  targetOf(operand: bigint, beside: bigint): bigint;
  run(values: bigint, operand: bigint): void;
}

/** f32 values are operands where they are computed; others are computed beside and rounded. */
export function rounding(kernels: OneDnnKernels, operandType: OperandType, count: number): Rounding {
  if (operandType === 'f32') return { targetOf: (operand) => operand, run: () => {} };
  return { targetOf: (_operand, beside) => beside, run: kernels.copy(dense([count]), dense([count], operandType)) };
}
