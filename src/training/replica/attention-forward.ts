import { addressedFloats, floatsAt } from '../../tensor/native-memory.js';
import { dense, type Kernel, transposed } from '../../tensor/products/products.js';
import type { AttentionWeights } from './attention-weights.js';
import { type AttentionPart, type AttentionWork, groupOf } from './attention-work.js';
import type { JointKeys, PrefixMemory } from './joint-keys.js';
import { addLargest, addLogs, areKnown } from './log-sums.js';
import type { ReplicaContext } from './replica-context.js';
import type { LayerMemory } from './replica-memory.js';

/** Kernels for a tile and one key/value head: the prefix is seen, and behind it some blocks of the slot. */
interface TileKernels {
  keyCount: number;
  /** Of each query's weights. Addresses: ones, weights, sums. */
  sum: Kernel;
  /** weightsᵀ · values. Addresses: weights, values, result. */
  mix: Kernel;
}

/**
 * softmax(queries · keysᵀ) · values, tile by tile. Softmax is the same whatever is subtracted from all scores of a query. Its largest one
 * would be safe, and takes a pass over all; the score of the first key is nearly always close enough. What was mixed is divided
 * by the sum of its weights.
 */
export class AttentionForward {
  readonly #context: ReplicaContext;
  readonly #keys: JointKeys;
  readonly #weights: AttentionWeights;
  /** By the number of blocks that a tile sees, from one on. */
  readonly #kernels: readonly TileKernels[];
  /** first key · queriesᵀ. Addresses: key, queries, scores. */
  readonly #scoreFirst: Kernel;
  /** Addresses: values, divisors of their rows. */
  readonly #divide: Kernel;
  readonly #ones: ReturnType<typeof addressedFloats>;
  readonly #sums: Float32Array;
  /** By layer. */
  readonly #logSums: readonly Float32Array[];

  constructor(context: ReplicaContext, keys: JointKeys, weights: AttentionWeights) {
    const { memory, model, products, shape } = context;
    const { heads, headDimension: D } = model.config;
    const { blockTokens, slotTokens, prefixTokens, tokens } = shape;
    const queryCount = blockTokens * groupOf(context);
    const type = products.operandType;
    this.#context = context;
    this.#keys = keys;
    this.#weights = weights;
    this.#kernels = Array.from({ length: slotTokens / blockTokens }, (_, index) =>
      createTileKernels(context, prefixTokens + (index + 1) * blockTokens),
    );
    this.#scoreFirst = products.matmul(dense([1, D], type), transposed(dense([queryCount, D], type)), dense([1, queryCount]));
    this.#divide = products.divideRows(queryCount, D);
    this.#ones = addressedFloats(prefixTokens + slotTokens);
    this.#ones.values.fill(1);
    this.#sums = floatsAt(memory.weightSums, queryCount);
    this.#logSums = memory.layers.map(({ logSums }) => floatsAt(logSums, tokens * heads));
  }

  /** Fills `mixed`, [Hkv, tokens, group, D], and a layer's `logSums` from its queries, keys and values. */
  run(index: number, prefix: PrefixMemory, { runs }: AttentionWork): void {
    const layer = this.#context.memory.layers[index]!;
    this.#keys.loadPrefix(prefix);
    for (const run of runs) {
      this.#keys.loadBlocks(run, layer);
      for (const part of run.parts) this.#runPart(layer, part, this.#logSums[index]!);
    }
  }

  /** Until the end `logSums` has what is subtracted. */
  #runPart(layer: LayerMemory, part: AttentionPart, logSums: Float32Array): void {
    const { memory } = this.#context;
    const { at, blocks } = part;
    const { keyCount, mix } = this.#kernels[blocks - 1]!;
    const queries = layer.queries + at.queryOperands;
    this.#scoreFirst(memory.jointKeys + at.keyOperands, queries, layer.logSums + at.queryRows);
    this.#weigh(layer, part);
    if (!areKnown(this.#sums)) {
      addLargest(logSums, at.firstQueryRow, this.#weights.score(layer, part), keyCount, this.#sums.length);
      this.#weigh(layer, part);
    }
    mix(this.#weights.operands(blocks), memory.jointValues + at.keyOperands, memory.mixed + at.queries);
    this.#divide(memory.mixed + at.queries, memory.weightSums);
    addLogs(logSums, at.firstQueryRow, this.#sums);
  }

  #weigh(layer: LayerMemory, part: AttentionPart): void {
    const { scores, weightSums } = this.#context.memory;
    this.#weights.compute(layer, part);
    this.#kernels[part.blocks - 1]!.sum(this.#ones.address, scores, weightSums);
  }
}

function createTileKernels(context: ReplicaContext, keyCount: number): TileKernels {
  const { products, model, shape } = context;
  const { headDimension: D } = model.config;
  const type = products.operandType;
  const queryCount = shape.blockTokens * groupOf(context);
  const weights = dense([keyCount, queryCount]);
  return {
    keyCount,
    sum: products.matmul(dense([1, keyCount]), weights, dense([1, queryCount])),
    mix: products.matmul(transposed({ ...weights, type }), dense([keyCount, D], type), dense([queryCount, D])),
  };
}
