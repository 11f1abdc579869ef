import { dense, type Kernel, OPERAND_BYTES } from '../../tensor/products/products.js';
import { groupOf } from './attention-work.js';
import { type Block, cutIntoBlocks } from './blocks.js';
import type { ReplicaContext } from './replica-context.js';

/** What the attention's way back wants to know of each query: the dot product of what was mixed for it and the gradient of that. */
export class MixedDots {
  readonly #context: ReplicaContext;
  readonly #blocks: readonly Block<Kernel>[];
  /** From [tokens, heads] to [Hkv, tokens, group]. */
  readonly #split: Kernel;

  constructor(context: ReplicaContext) {
    const { products, model, shape } = context;
    const { heads, kvHeads, headDimension: D } = model.config;
    const group = groupOf(context);
    const dimensions = [kvHeads, shape.tokens, group];
    this.#context = context;
    this.#blocks = cutIntoBlocks(shape.tokens * heads, D, (rows) => products.rowDots(rows, D));
    this.#split = products.copy({ dimensions, strides: [group, heads, 1] }, dense(dimensions));
  }

  /** From the gradient in f32 and what was mixed as an operand, both [tokens, heads · D], to `mixedDots`. */
  run(gradient: bigint, joined: bigint): void {
    const { memory, model, products } = this.#context;
    const { headDimension: D } = model.config;
    const operandBytes = OPERAND_BYTES[products.operandType];
    for (const { first, kernels } of this.#blocks) {
      const values = BigInt(first * D * OPERAND_BYTES.f32);
      const operands = BigInt(first * D * operandBytes);
      const rows = BigInt(first * OPERAND_BYTES.f32);
      kernels(gradient + values, joined + operands, memory.dotsByToken + rows, memory.scratch);
    }
    this.#split(memory.dotsByToken, memory.mixedDots);
  }
}
