import { floatsAt } from '../../tensor/native-memory.js';
import { dense, type Kernel, transposed } from '../../tensor/products/products.js';
import { type AttentionPart, groupOf } from './attention-work.js';
import type { Cast, ReplicaContext } from './replica-context.js';
import type { LayerMemory } from './replica-memory.js';

interface TileKernels {
  /** keys · queriesᵀ − log sums. Addresses: keys, queries, scores, log sums. */
  score: Kernel;
  exp: Kernel;
  cast: Cast;
}

/**
 * What the queries of a tile give to each key, in `scores`, [keys, queries]: exp(score − log sum), and 0 where the mask hides a key.
 * The gradients of keys and values want weights by key, and so do products with a matrix unit.
 */
export class AttentionWeights {
  readonly #context: ReplicaContext;
  /** By the number of blocks that a tile sees behind the prefix, from none on. */
  readonly #kernels: readonly TileKernels[];
  readonly #scores: Float32Array;

  constructor(context: ReplicaContext) {
    const { blockTokens, slotTokens, prefixTokens } = context.shape;
    this.#context = context;
    this.#kernels = Array.from({ length: slotTokens / blockTokens + 1 }, (_, blocks) =>
      createTileKernels(context, prefixTokens + blocks * blockTokens),
    );
    this.#scores = floatsAt(context.memory.scores, blockTokens * groupOf(context) * (prefixTokens + slotTokens));
  }

  /** Less the layer's log sums, −∞ where the mask hides a key. */
  score(layer: LayerMemory, { blocks, hidden, at }: AttentionPart): Float32Array {
    this.#scoreKeys(layer, blocks, at);
    for (let pair = 0; pair < hidden.length; pair += 2) {
      this.#scores.fill(Number.NEGATIVE_INFINITY, hidden[pair], hidden[pair + 1]);
    }
    return this.#scores;
  }

  compute(layer: LayerMemory, part: AttentionPart): void {
    const { scores } = this.#context.memory;
    this.score(layer, part);
    this.#kernels[part.blocks]!.exp(scores, scores);
  }

  /** Of the prefix's keys alone. */
  computePrefix(layer: LayerMemory, { at }: AttentionPart): void {
    const { scores } = this.#context.memory;
    this.#scoreKeys(layer, 0, at);
    this.#kernels[0]!.exp(scores, scores);
  }

  /** The address of the weights as operands, behind so many blocks. */
  operands(blocks: number): bigint {
    const { scores, scoreOperands } = this.#context.memory;
    return this.#kernels[blocks]!.cast(scores, scoreOperands);
  }

  #scoreKeys(layer: LayerMemory, blocks: number, at: AttentionPart['at']): void {
    const { scores, jointKeys } = this.#context.memory;
    const [keys, queries] = [jointKeys + at.keyOperands, layer.queries + at.queryOperands];
    this.#kernels[blocks]!.score(keys, queries, scores, layer.logSums + at.queryRows);
  }
}

/** Every matrix of a tile lies without gaps, and has two dimensions: oneDNN's fastest code wants both. */
function createTileKernels(context: ReplicaContext, keyCount: number): TileKernels {
  const { products, model, shape } = context;
  const { headDimension: D } = model.config;
  const type = products.operandType;
  const queryCount = shape.blockTokens * groupOf(context);
  const [keys, queries] = [dense([keyCount, D], type), dense([queryCount, D], type)];
  return {
    score: products.offsetMatmul(keys, transposed(queries), dense([keyCount, queryCount])),
    exp: products.exp(keyCount * queryCount),
    cast: context.cast(keyCount * queryCount),
  };
}
