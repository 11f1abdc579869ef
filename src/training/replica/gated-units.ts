import { OPERAND_BYTES } from '../../tensor/products/products.js';
import type { ReplicaContext } from './replica-context.js';
import { BLOCK_VALUES, type FeedForwardMemory } from './replica-memory.js';

type BlockKernels = ReturnType<typeof createBlockKernels>;

/**
 * silu(gate) · up for `count` values, and its way back, to operands of the products around it. The kernels pass over one block
 * after the other: over all values at once, each pass would wait for memory.
 */
export class GatedUnits {
  readonly #memory: FeedForwardMemory;
  readonly #blocks: readonly Block[];
  readonly #isRounded: boolean;

  constructor(context: ReplicaContext, count: number, memory: FeedForwardMemory) {
    this.#memory = memory;
    this.#blocks = cutIntoBlocks(context, count);
    this.#isRounded = context.products.operandType !== 'f32';
  }

  /** From gate and up, f32, to `operand`. */
  forward(gate: bigint, up: bigint): void {
    for (const { values, operands, kernels } of this.#blocks) {
      const operand = this.#memory.operand + operands;
      const result = this.#resultFor(operand);
      kernels.gated(gate + values, up + values, result);
      kernels.cast(result, operand);
    }
  }

  /** From the gradient of the result, f32 in `productGradient`, to those of gate in `operand` and of up in `secondOperand`. */
  backward(gate: bigint, up: bigint): void {
    const { productGradient, operand, secondOperand, blockFactor } = this.#memory;
    for (const { values, operands, kernels } of this.#blocks) {
      const gradient = productGradient + values;
      const gateGradient = this.#resultFor(operand + operands);
      kernels.multiply(gradient, up + values, blockFactor);
      kernels.swishBackward(gate + values, blockFactor, gateGradient);
      kernels.cast(gateGradient, operand + operands);
      const upGradient = this.#resultFor(secondOperand + operands);
      kernels.swish(gate + values, blockFactor);
      kernels.multiply(gradient, blockFactor, upGradient);
      kernels.cast(upGradient, secondOperand + operands);
    }
  }

  /** Where a block is computed that is to be the operand there: f32 values are operands as they are. */
  #resultFor(operand: bigint): bigint {
    return this.#isRounded ? this.#memory.blockResult : operand;
  }
}

/** A block's distance from the first value, in bytes of f32 values and of operands. */
interface Block {
  values: bigint;
  operands: bigint;
  kernels: BlockKernels;
}

function cutIntoBlocks(context: ReplicaContext, count: number): Block[] {
  const whole = Math.floor(count / BLOCK_VALUES);
  const rest = count % BLOCK_VALUES;
  const block = (kernels: BlockKernels, index: number): Block => ({
    values: BigInt(index * BLOCK_VALUES * OPERAND_BYTES.f32),
    operands: BigInt(index * BLOCK_VALUES * OPERAND_BYTES[context.products.operandType]),
    kernels,
  });
  const kernels = whole > 0 ? createBlockKernels(context, BLOCK_VALUES) : undefined;
  const blocks = Array.from({ length: whole }, (_, index) => block(kernels!, index));
  return rest > 0 ? [...blocks, block(createBlockKernels(context, rest), whole)] : blocks;
}

function createBlockKernels(context: ReplicaContext, count: number) {
  const { products } = context;
  return {
    gated: context.graph((g) => {
      g.result(2, g.ggml.ggml_swiglu_split(g.context, g.input(0, [count]), g.input(1, [count])));
    }),
    multiply: products.multiply(count),
    swish: products.swish(count),
    swishBackward: products.swishBackward(count),
    cast: context.cast(count),
  };
}
