import { floatsAt } from '../../tensor/native-memory.js';
import { dense, type Kernel, transposed } from '../../tensor/products/products.js';
import type { AttentionWeights } from './attention-weights.js';
import { type AttentionPart, type AttentionWork, groupOf } from './attention-work.js';
import type { JointKeys, PrefixMemory } from './joint-keys.js';
import type { ReplicaContext } from './replica-context.js';
import type { LayerMemory } from './replica-memory.js';

/** Kernels for a tile and one key/value head: the prefix is seen, and behind it some blocks of the slot. */
interface TileKernels {
  /** (values · gradientsᵀ − dots) ∘ weights. Addresses: values, gradients of what was mixed, result, dots, weights. */
  scoreGradient: Kernel;
  gather: Gather;
  /** scoresᵀ · keys. Addresses: scores, keys, result. */
  mix: Kernel;
}

/** scores · queries, to the gradient of keys or values: begins a sum, or adds to it. Addresses: scores, queries, gradient. */
interface Gather {
  begin: Kernel;
  add: Kernel;
}

/**
 * The way back of the attention (Dao et al., 2022, algorithm 4): with log Σ exp of each query's scores, and the dot product of what was
 * mixed with its gradient, every score's weight and gradient follow from that score alone.
 */
export class AttentionBackward {
  readonly #context: ReplicaContext;
  readonly #keys: JointKeys;
  readonly #weights: AttentionWeights;
  /** By the number of blocks that a tile sees, from none on. */
  readonly #kernels: readonly TileKernels[];
  readonly #queryGradients: Float32Array;
  /** Of keys and values. */
  readonly #gradients: readonly Float32Array[];

  constructor(context: ReplicaContext, keys: JointKeys, weights: AttentionWeights) {
    const { memory, model, shape } = context;
    const { heads, kvHeads, headDimension: D } = model.config;
    const { blockTokens, slotTokens, prefixTokens } = shape;
    this.#context = context;
    this.#keys = keys;
    this.#weights = weights;
    this.#kernels = Array.from({ length: slotTokens / blockTokens + 1 }, (_, blocks) =>
      createTileKernels(context, prefixTokens + blocks * blockTokens),
    );
    const view = (address: bigint, count: number) => floatsAt(address, shape.tokens * D * count);
    this.#queryGradients = view(memory.queryGradients, heads);
    this.#gradients = [memory.keyGradients, memory.valueGradients].map((address) => view(address, kvHeads));
  }

  /**
   * From the gradient of `mixed` (operands) to those of queries, keys and values; adds to the prefix's. Without `wantsOwn`
   * the prefix's alone are computed: nothing lies below the first layer that needs another.
   */
  run(layer: LayerMemory, prefix: PrefixMemory, { runs, idleTokens }: AttentionWork, wantsOwn: boolean): void {
    if (wantsOwn) this.#clear(idleTokens);
    this.#keys.loadPrefix(prefix);
    for (const run of runs) {
      if (wantsOwn) this.#keys.loadBlocks(run, layer);
      // The last tile sees all keys of the run: it begins the sums to which the others add.
      const last = run.parts.at(-1)!.tile;
      for (let index = run.parts.length - 1; index >= 0; index--) {
        const part = run.parts[index]!;
        this.#runPart(layer, part, part.tile === last ? 'begin' : 'add', wantsOwn);
      }
      this.#keys.addPrefixGradients(prefix);
      if (wantsOwn) this.#keys.addBlockGradients(run);
    }
  }

  #runPart(layer: LayerMemory, part: AttentionPart, sum: keyof Gather, wantsOwn: boolean): void {
    const { memory } = this.#context;
    const { at } = part;
    const blocks = wantsOwn ? part.blocks : 0;
    const kernels = this.#kernels[blocks]!;
    const gather = kernels.gather[sum];
    const [keys, values] = [memory.jointKeys + at.keyOperands, memory.jointValues + at.keyOperands];
    const [queries, mixedGradients] = [layer.queries + at.queryOperands, memory.mixedGradients + at.queryOperands];

    if (wantsOwn) this.#weights.compute(layer, part);
    else this.#weights.computePrefix(layer, part);
    kernels.scoreGradient(values, mixedGradients, memory.scoreGradients, memory.mixedDots + at.queryRows, memory.scores);
    gather(memory.scoreGradients, queries, memory.jointKeyGradients + at.keys);
    if (wantsOwn) kernels.mix(memory.scoreGradients, keys, memory.queryGradients + at.queries);
    gather(this.#weights.operands(blocks), mixedGradients, memory.jointValueGradients + at.keys);
  }

  /** Blocks are added to the gradients of keys and values, and no tile computes those of queries that are padding. */
  #clear(idleTokens: readonly number[]): void {
    for (const gradient of this.#gradients) gradient.fill(0);
    const { model, shape } = this.#context;
    const tokenValues = groupOf(this.#context) * model.config.headDimension;
    for (let head = 0; head < model.config.kvHeads; head++) {
      for (const token of idleTokens) {
        const first = (head * shape.tokens + token) * tokenValues;
        this.#queryGradients.fill(0, first, first + shape.blockTokens * tokenValues);
      }
    }
  }
}

function createTileKernels(context: ReplicaContext, keyCount: number): TileKernels {
  const { products, model, shape } = context;
  const { headDimension: D } = model.config;
  const type = products.operandType;
  const queryCount = shape.blockTokens * groupOf(context);
  const [queries, keys, scores] = [dense([queryCount, D], type), dense([keyCount, D], type), dense([keyCount, queryCount], type)];
  const gradients = dense([keyCount, D]);
  return {
    scoreGradient: products.offsetMatmul(keys, transposed(queries), scores, true),
    gather: {
      begin: products.matmul(scores, queries, gradients),
      add: products.matmul(scores, queries, gradients, true),
    },
    mix: products.matmul(transposed(scores), keys, dense([queryCount, D])),
  };
}
