import type { OneDnnKernels } from './onednn-kernels.js';
import { rounding } from './onednn-rounding.js';
import { dense, type Kernel, OPERAND_BYTES, type OperandType } from './products.js';

/**
 * With s = 1 / (1 + e⁻ᵍᵃᵗᵉ) and t = dy · gate, the gradient of up is t · s, and that of gate is (t − t · s + dy) · s · up. In that order
 * nothing of dy is lost beside a large t, since s is 1 there. The first pass over `gate`, which seldom lies in the cache, is a product:
 * code for one waits for memory less than that of s.
 */
export function oneDnnGatedBackward(kernels: OneDnnKernels, operandType: OperandType, count: number): Kernel {
  const values = dense([count]);
  const multiply = kernels.binary('multiply', values, values, values);
  const logistic = kernels.element('logistic', values);
  const finish = kernels.binary('subtract', values, values, values, [
    { kind: 'add', operand: values },
    { kind: 'multiply', operand: values },
    { kind: 'multiply', operand: values },
  ]);
  const round = rounding(kernels, operandType, count);
  return (...[gradient, gate, up, gateGradient, upGradient, scratch]) => {
    const [scaled, sigmoid, beside] = blocksAt(scratch!, count);
    const ofUp = round.targetOf(upGradient!, beside);
    multiply(gradient!, gate!, scaled);
    logistic(gate!, sigmoid);
    multiply(scaled, sigmoid, ofUp);
    round.run(ofUp, upGradient!);
    const ofGate = round.targetOf(gateGradient!, scaled);
    finish(scaled, ofUp, ofGate, gradient!, sigmoid, up!);
    round.run(ofGate, gateGradient!);
  };
}

function blocksAt(scratch: bigint, count: number): [bigint, bigint, bigint] {
  const bytes = BigInt(count * OPERAND_BYTES.f32);
  return [scratch, scratch + bytes, scratch + 2n * bytes];
}
