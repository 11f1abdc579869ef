import { placed } from '../../tensor/products/ggml-matmul.js';
import { type Kernel, type Layout, OPERAND_BYTES } from '../../tensor/products/products.js';
import type { ReplicaContext } from './replica-context.js';
import type { LayerMemory } from './replica-memory.js';

/** The cartridge's rows of a layer as operands, and where their gradients are summed up; each [Hkv, p, D]. */
export interface PrefixMemory {
  keys: bigint;
  values: bigint;
  keyGradients: bigint;
  valueGradients: bigint;
}

/** Some blocks of a slot. */
export interface KeyBlocks {
  slot: number;
  firstBlock: number;
  blocks: number;
}

/** Kernels for so many blocks of a slot, between where its layer keeps them and the joint rows. */
interface BlockKernels {
  /** Addresses: from, to. */
  copy: Kernel;
  /** Addresses: the sum, what is added to it. */
  add: Kernel;
}

/**
 * Keys and values of a layer as products want them: for each head the cartridge's rows and behind them, without a gap, those of some
 * blocks of a slot. One product then sees all keys of a tile, and its result has no gaps either, for which oneDNN has faster code.
 * Gradients are gathered in the same order and added to those of cartridge and slot.
 */
export class JointKeys {
  readonly #context: ReplicaContext;
  readonly #prefix: BlockKernels;
  readonly #own: BlockKernels[];
  readonly #operandBytes: number;

  constructor(context: ReplicaContext) {
    const { prefixTokens, blockTokens, slotTokens, tokens } = context.shape;
    this.#context = context;
    this.#operandBytes = OPERAND_BYTES[context.products.operandType];
    this.#prefix = this.#kernelsFor(prefixTokens, prefixTokens);
    this.#own = Array.from({ length: slotTokens / blockTokens }, (_, index) =>
      this.#kernelsFor((index + 1) * blockTokens, tokens),
    );
  }

  /** Begins a layer: the cartridge's rows stay for all its tiles. */
  loadPrefix({ keys, values }: PrefixMemory): void {
    const { jointKeys, jointValues } = this.#context.memory;
    this.#prefix.copy(keys, jointKeys);
    this.#prefix.copy(values, jointValues);
  }

  /** Puts some blocks of a slot behind the cartridge's rows. */
  loadBlocks(blocks: KeyBlocks, { keys, values }: LayerMemory): void {
    const { jointKeys, jointValues } = this.#context.memory;
    const { copy } = this.#own[blocks.blocks - 1]!;
    const [from, to] = [this.#startOf(blocks, this.#operandBytes), this.#ownRows(this.#operandBytes)];
    copy(keys + from, jointKeys + to);
    copy(values + from, jointValues + to);
  }

  /** Adds what was gathered for the cartridge's rows. */
  addPrefixGradients({ keyGradients, valueGradients }: PrefixMemory): void {
    const { jointKeyGradients, jointValueGradients } = this.#context.memory;
    this.#prefix.add(keyGradients, jointKeyGradients);
    this.#prefix.add(valueGradients, jointValueGradients);
  }

  /** Adds what was gathered for some blocks of a slot. */
  addBlockGradients(blocks: KeyBlocks): void {
    const { memory } = this.#context;
    const { add } = this.#own[blocks.blocks - 1]!;
    const [to, from] = [this.#startOf(blocks, OPERAND_BYTES.f32), this.#ownRows(OPERAND_BYTES.f32)];
    add(memory.keyGradients + to, memory.jointKeyGradients + from);
    add(memory.valueGradients + to, memory.jointValueGradients + from);
  }

  /** From the beginning of a layer's keys to some blocks of a slot, in bytes. */
  #startOf({ slot, firstBlock }: KeyBlocks, valueBytes: number): bigint {
    const { slotTokens, blockTokens } = this.#context.shape;
    return this.#rows(slot * slotTokens + firstBlock * blockTokens, valueBytes);
  }

  #ownRows(valueBytes: number): bigint {
    return this.#rows(this.#context.shape.prefixTokens, valueBytes);
  }

  #rows(count: number, valueBytes: number): bigint {
    return BigInt(count * this.#context.model.config.headDimension * valueBytes);
  }

  /** For `count` rows of every head, whose heads lie `distance` rows apart outside of the joint rows. */
  #kernelsFor(count: number, distance: number): BlockKernels {
    const { products, shape, model } = this.#context;
    const { kvHeads, headDimension: D } = model.config;
    const rows = (headDistance: number): Layout => ({ dimensions: [kvHeads, count, D], strides: [headDistance * D, D, 1] });
    const [outside, joint] = [rows(distance), rows(shape.prefixTokens + shape.slotTokens)];
    const type = products.operandType;
    return {
      copy: products.copy({ ...outside, type }, { ...joint, type }),
      add: this.#context.graph((g) => {
        const [sum, addend] = [placed(outside), placed(joint)];
        const total = g.input(0, sum.dimensions, sum.placement);
        g.result(0, g.ggml.ggml_add(g.context, total, g.input(1, addend.dimensions, addend.placement)), sum.placement);
      }),
    };
  }
}
