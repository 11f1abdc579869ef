import { type Kernel, OPERAND_BYTES } from '../../tensor/products/products.js';
import { type Block, cutIntoBlocks } from './blocks.js';
import type { Cast, ReplicaContext } from './replica-context.js';
import type { FeedForwardMemory } from './replica-memory.js';

interface BlockKernels {
  /** Addresses: gate, up, swish(gate) · up in f32. */
  forward: Kernel;
  cast: Cast;
  backward: Kernel;
}

/** swish(gate) · up for `count` values, and its way back, to operands of the products around it, block by block. */
export class GatedUnits {
  readonly #memory: FeedForwardMemory;
  readonly #scratch: bigint;
  readonly #operandBytes: number;
  readonly #isRounded: boolean;
  readonly #blocks: readonly Block<BlockKernels>[];

  constructor(context: ReplicaContext, count: number, memory: FeedForwardMemory) {
    const { products } = context;
    this.#memory = memory;
    this.#scratch = context.memory.scratch;
    this.#operandBytes = OPERAND_BYTES[products.operandType];
    this.#isRounded = products.operandType !== 'f32';
    this.#blocks = cutIntoBlocks(count, 1, (values) => ({
      forward: context.graph((g) => {
        g.result(2, g.ggml.ggml_swiglu_split(g.context, g.input(0, [values]), g.input(1, [values])));
      }),
      cast: context.cast(values),
      backward: products.gatedBackward(values),
    }));
  }

  /** From gate and up, f32, to `operand`. */
  forward(gate: bigint, up: bigint): void {
    for (const { first, kernels } of this.#blocks) {
      const [values, operands] = this.#distances(first);
      const operand = this.#memory.operand + operands;
      const result = this.#isRounded ? this.#scratch : operand;
      kernels.forward(gate + values, up + values, result);
      kernels.cast(result, operand);
    }
  }

  /** From the gradient of the result, f32 in `productGradient`, to those of gate in `operand` and of up in `secondOperand`. */
  backward(gate: bigint, up: bigint): void {
    const { productGradient, operand, secondOperand } = this.#memory;
    for (const { first, kernels } of this.#blocks) {
      const [values, operands] = this.#distances(first);
      const [gateGradient, upGradient] = [operand + operands, secondOperand + operands];
      kernels.backward(productGradient + values, gate + values, up + values, gateGradient, upGradient, this.#scratch);
    }
  }

  /** From the first value to the one with this number, in bytes of f32 values and of operands. */
  #distances(first: number): [bigint, bigint] {
    return [BigInt(first * OPERAND_BYTES.f32), BigInt(first * this.#operandBytes)];
  }
}
