import { type Kernel, OPERAND_BYTES } from '../../tensor/products/products.js';
import { type Block, cutIntoBlocks } from './blocks.js';
import type { ReplicaContext } from './replica-context.js';

interface BlockKernels {
  forward: Kernel;
  addAndForward: Kernel;
  backward: Kernel;
  backwardAndAdd: Kernel;
}

/** RMS norms of `rows` rows of hidden values, f32, some rows at a time. `factors` holds what the way back wants to know of each row. */
export class Norms {
  readonly #blocks: readonly Block<BlockKernels>[];
  readonly #scratch: bigint;
  readonly #rowBytes: number;
  readonly #operandRowBytes: number;

  constructor({ products, model, memory }: ReplicaContext, rows: number) {
    const { embedding: columns, rmsEpsilon: epsilon } = model.config;
    this.#scratch = memory.scratch;
    this.#rowBytes = columns * OPERAND_BYTES.f32;
    this.#operandRowBytes = columns * OPERAND_BYTES[products.operandType];
    this.#blocks = cutIntoBlocks(rows, columns, (blockRows) => {
      const shape = { rows: blockRows, columns, epsilon };
      return {
        forward: products.norm(shape),
        addAndForward: products.norm(shape, true),
        backward: products.normBackward(shape),
        backwardAndAdd: products.normBackward(shape, true),
      };
    });
  }

  /** The norm of x, as an operand. */
  norm(x: bigint, weight: bigint, factors: bigint, result: bigint): void {
    for (const { first, kernels } of this.#blocks) {
      const [values, operands, rows] = this.#distances(first);
      kernels.forward(x + values, weight, factors + rows, result + operands, this.#scratch);
    }
  }

  /** x = input + branch, and the norm of x. */
  addAndNorm(input: bigint, branch: bigint, x: bigint, weight: bigint, factors: bigint, result: bigint): void {
    for (const { first, kernels } of this.#blocks) {
      const [values, operands, rows] = this.#distances(first);
      const addresses = [input + values, weight, factors + rows, result + operands, this.#scratch];
      kernels.addAndForward(...addresses, branch + values, x + values);
    }
  }

  /** From the gradient of the result to that of x. */
  normBackward(gradient: bigint, weight: bigint, x: bigint, factors: bigint, result: bigint): void {
    for (const { first, kernels } of this.#blocks) {
      const [values, , rows] = this.#distances(first);
      kernels.backward(gradient + values, weight, x + values, factors + rows, result + values, this.#scratch);
    }
  }

  /** The same, and to it is added the gradient that comes past the norm. */
  normBackwardAndAdd(gradient: bigint, weight: bigint, x: bigint, factors: bigint, past: bigint, result: bigint): void {
    for (const { first, kernels } of this.#blocks) {
      const [values, , rows] = this.#distances(first);
      const addresses = [gradient + values, weight, x + values, factors + rows, result + values, this.#scratch];
      kernels.backwardAndAdd(...addresses, past + values);
    }
  }

  /** From the first row to the one with this number, in bytes of f32 values, of operands, and of one value a row. */
  #distances(first: number): [bigint, bigint, bigint] {
    return [BigInt(first * this.#rowBytes), BigInt(first * this.#operandRowBytes), BigInt(first * OPERAND_BYTES.f32)];
  }
}
