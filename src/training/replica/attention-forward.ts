import { floatsAt } from '../../tensor/native-memory.js';
import { dense, type Kernel, transposed } from '../../tensor/products/products.js';
import { type AttentionPart, type AttentionWork, groupOf } from './attention-work.js';
import type { JointKeys, PrefixMemory } from './joint-keys.js';
import { addUpLogSums, deriveLogSums, noteFirstScores } from './log-sums.js';
import type { Cast, ReplicaContext } from './replica-context.js';
import type { LayerMemory } from './replica-memory.js';

/** Kernels for a tile and one key/value head: the prefix is seen, and behind it some blocks of the slot. */
interface TileKernels {
  keyCount: number;
  /** queries · keysᵀ. Addresses: queries, keys, scores. */
  score: Kernel;
  softmax: Kernel;
  cast: Cast;
  /** scores · values. Addresses: scores, values, result. */
  mix: Kernel;
}

/** softmax(queries · keysᵀ) · values, tile by tile. */
export class AttentionForward {
  readonly #context: ReplicaContext;
  readonly #keys: JointKeys;
  /** By the number of blocks that a tile sees, from one on. */
  readonly #kernels: readonly TileKernels[];
  readonly #scores: Float32Array;
  readonly #firstScores: Float32Array;
  /** By layer. */
  readonly #logSums: readonly Float32Array[];

  constructor(context: ReplicaContext, keys: JointKeys) {
    const { memory, model, shape } = context;
    const { blockTokens, slotTokens, prefixTokens, tokens } = shape;
    const queryCount = blockTokens * groupOf(context);
    this.#context = context;
    this.#keys = keys;
    this.#kernels = Array.from({ length: slotTokens / blockTokens }, (_, index) =>
      createTileKernels(context, prefixTokens + (index + 1) * blockTokens),
    );
    this.#scores = floatsAt(memory.scores, queryCount * (prefixTokens + slotTokens));
    this.#firstScores = new Float32Array(queryCount);
    this.#logSums = memory.layers.map(({ logSums }) => floatsAt(logSums, tokens * model.config.heads));
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

  #runPart(layer: LayerMemory, part: AttentionPart, logSums: Float32Array): void {
    const { memory } = this.#context;
    const { keyCount, softmax, cast, mix } = this.#kernels[part.blocks - 1]!;
    const { firstQueryRow, keyOperands, queries } = part.at;
    this.#score(layer, part);
    noteFirstScores(this.#scores, keyCount, this.#firstScores);
    softmax(memory.scores, memory.scores);
    const isKnown = deriveLogSums(this.#scores, keyCount, this.#firstScores, logSums, firstQueryRow);
    mix(cast(memory.scores, memory.scoreOperands), memory.jointValues + keyOperands, memory.mixed + queries);
    if (isKnown) return;
    this.#score(layer, part);
    addUpLogSums(this.#scores, this.#firstScores.length, keyCount, logSums, firstQueryRow);
  }

  /** Scores of a tile, −∞ where the mask hides a key. */
  #score(layer: LayerMemory, { blocks, hidden, at }: AttentionPart): void {
    const { scores, jointKeys } = this.#context.memory;
    this.#kernels[blocks - 1]!.score(layer.queries + at.queryOperands, jointKeys + at.keyOperands, scores);
    const { byQuery } = hidden;
    for (let pair = 0; pair < byQuery.length; pair += 2) {
      this.#scores.fill(Number.NEGATIVE_INFINITY, byQuery[pair], byQuery[pair + 1]);
    }
  }
}

/** Every matrix of a tile lies without gaps, and has two dimensions: oneDNN's fastest code wants both. */
function createTileKernels(context: ReplicaContext, keyCount: number): TileKernels {
  const { products, model, shape } = context;
  const { headDimension: D } = model.config;
  const type = products.operandType;
  const queryCount = shape.blockTokens * groupOf(context);
  const keys = dense([keyCount, D], type);
  return {
    keyCount,
    score: products.matmul(dense([queryCount, D], type), transposed(keys), dense([queryCount, keyCount])),
    softmax: products.softmax(queryCount, keyCount),
    cast: context.cast(queryCount * keyCount),
    mix: products.matmul(dense([queryCount, keyCount], type), keys, dense([queryCount, D])),
  };
}
