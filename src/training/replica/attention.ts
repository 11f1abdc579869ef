import { floatsAt } from '../../tensor/native-memory.js';
import { type Kernel, type Layout, OPERAND_BYTES } from '../../tensor/products/products.js';
import type { Cast, ReplicaContext } from './replica-context.js';
import type { LayerMemory } from './replica-memory.js';
import type { AttentionTile } from './replica-unit.js';

/** The cartridge's rows of a layer as operands, and where their gradients are summed up; each [Hkv, p, D]. */
export interface PrefixMemory {
  keys: bigint;
  values: bigint;
  keyGradients: bigint;
  valueGradients: bigint;
}

/** Kernels for tiles that see `p + ownTokens` keys. Scores lie as [heads, queries, p + ownTokens], the prefix first. */
interface TileKernels {
  ownTokens: number;
  /** queries · keysᵀ, for the prefix and for the slot's own keys. Addresses: queries, keys, scores. */
  scorePrefix: Kernel;
  scoreOwn: Kernel;
  softmax: Kernel;
  softmaxBackward: Kernel;
  cast: Cast;
  /** scores · values, the second added to the first. Addresses: scores, values, result. */
  mixPrefix: Kernel;
  mixOwn: Kernel;
  /** scoresᵀ · queries, added to the gradient of keys or values. Addresses: scores, queries, gradient. */
  gatherPrefix: Kernel;
  gatherOwn: Kernel;
}

/** A tile for the heads that are computed together: what runs there, and where its parts lie, in every layer alike. */
export interface AttentionPart {
  kernels: TileKernels;
  tile: AttentionTile;
  at: TileAddresses;
}

/**
 * Attention tile by tile: some queries of a slot, for a few heads, see the prefix and the blocks of their slot that hold keys
 * of their conversations, up to their own. Blocks that the mask hides are not computed, and scores of one tile exist at a
 * time: they stay in the core's cache. The backward pass computes them again.
 *
 * The query heads of a group share their keys: they count as further queries.
 */
export class Attention {
  readonly #context: ReplicaContext;
  readonly #group: number;
  readonly #kernels: TileKernels[];
  readonly #operandBytes: number;
  readonly #scores: Float32Array;

  constructor(context: ReplicaContext) {
    const { config } = context.model;
    const { blockTokens, slotTokens, headsPerTile, prefixTokens } = context.shape;
    this.#context = context;
    this.#group = config.heads / config.kvHeads;
    this.#operandBytes = OPERAND_BYTES[context.products.operandType];
    this.#kernels = Array.from({ length: slotTokens / blockTokens }, (_, index) =>
      createTileKernels(context, this.#group, (index + 1) * blockTokens),
    );
    const scoreCount = headsPerTile * blockTokens * this.#group * (prefixTokens + slotTokens);
    this.#scores = floatsAt(context.memory.scores, scoreCount);
  }

  /** The work on the tiles of a unit, made once for all layers and both directions. */
  partsOf(tiles: readonly AttentionTile[]): AttentionPart[] {
    const { kvHeads } = this.#context.model.config;
    const { headsPerTile } = this.#context.shape;
    return tiles.flatMap((tile) => {
      const kernels = this.#kernels[tile.block - tile.firstBlock]!;
      return Array.from({ length: kvHeads / headsPerTile }, (_, index) => ({
        kernels,
        tile,
        at: new TileAddresses(this.#context, tile, index * headsPerTile, this.#group, this.#operandBytes),
      }));
    });
  }

  /** Fills `mixed`, [Hkv, tokens, group, D], from a layer's queries, keys and values. */
  forward(layer: LayerMemory, prefix: PrefixMemory, parts: readonly AttentionPart[], starts: Int32Array): void {
    const { scores, scoreOperands, mixed } = this.#context.memory;
    for (const { kernels, tile, at } of parts) {
      this.#weigh(kernels, layer, prefix, at, tile, starts);
      const operand = kernels.cast(scores, scoreOperands);
      const result = mixed + at.queries * 4n;
      kernels.mixPrefix(operand, at.prefixOperand(prefix.values), result);
      kernels.mixOwn(operand + at.ownScoreOperands, at.ownOperand(layer.values), result);
    }
  }

  /**
   * From the gradient of `mixed` (operands) to those of queries, keys and values; adds to the prefix's. Without `wantsOwn`
   * the prefix's alone are computed: nothing lies below the first layer that needs another.
   */
  backward(
    layer: LayerMemory,
    prefix: PrefixMemory,
    parts: readonly AttentionPart[],
    starts: Int32Array,
    wantsOwn: boolean,
  ): void {
    const { memory } = this.#context;
    if (wantsOwn) this.#clearGradients();
    for (const { kernels, tile, at } of parts) {
      const mixedGradients = at.queryOperand(memory.mixedGradients);
      this.#weigh(kernels, layer, prefix, at, tile, starts);
      const weights = kernels.cast(memory.scores, memory.scoreOperands);
      kernels.gatherPrefix(weights, mixedGradients, prefix.valueGradients + at.prefix * 4n);
      if (wantsOwn) kernels.gatherOwn(weights + at.ownScoreOperands, mixedGradients, memory.valueGradients + at.own * 4n);

      kernels.scorePrefix(mixedGradients, at.prefixOperand(prefix.values), memory.scoreGradients);
      kernels.scoreOwn(mixedGradients, at.ownOperand(layer.values), memory.scoreGradients + at.ownScores);
      kernels.softmaxBackward(memory.scoreGradients, memory.scores);
      const gradients = kernels.cast(memory.scoreGradients, memory.scoreGradientOperands);
      const queries = at.queryOperand(layer.queries);
      kernels.gatherPrefix(gradients, queries, prefix.keyGradients + at.prefix * 4n);
      if (!wantsOwn) continue;
      kernels.gatherOwn(gradients + at.ownScoreOperands, queries, memory.keyGradients + at.own * 4n);
      const result = memory.queryGradients + at.queries * 4n;
      kernels.mixPrefix(gradients, at.prefixOperand(prefix.keys), result);
      kernels.mixOwn(gradients + at.ownScoreOperands, at.ownOperand(layer.keys), result);
    }
  }

  /** softmax(queries · keysᵀ) with what a query may not see at 0. */
  #weigh(
    kernels: TileKernels,
    layer: LayerMemory,
    prefix: PrefixMemory,
    at: TileAddresses,
    tile: AttentionTile,
    starts: Int32Array,
  ): void {
    const { scores } = this.#context.memory;
    const queries = at.queryOperand(layer.queries);
    kernels.scorePrefix(queries, at.prefixOperand(prefix.keys), scores);
    kernels.scoreOwn(queries, at.ownOperand(layer.keys), scores + at.ownScores);
    this.#mask(kernels.ownTokens, tile, starts);
    kernels.softmax(scores, scores);
  }

  /** A token sees its conversation up to itself; padding sees itself, which keeps its values finite. */
  #mask(ownTokens: number, { slot, block, firstBlock }: AttentionTile, starts: Int32Array): void {
    const { prefixTokens, blockTokens, slotTokens, headsPerTile } = this.#context.shape;
    const rowLength = prefixTokens + ownTokens;
    let row = prefixTokens;
    for (let head = 0; head < headsPerTile; head++) {
      for (let token = block * blockTokens; token < (block + 1) * blockTokens; token++) {
        const start = starts[slot * slotTokens + token]!;
        const from = (start < 0 ? token : start) - firstBlock * blockTokens;
        const end = token + 1 - firstBlock * blockTokens;
        for (let member = 0; member < this.#group; member++, row += rowLength) {
          if (from > 0) this.#scores.fill(Number.NEGATIVE_INFINITY, row, row + from);
          if (end < ownTokens) this.#scores.fill(Number.NEGATIVE_INFINITY, row + end, row + ownTokens);
        }
      }
    }
  }

  /** Tiles add to the gradients of keys and values, and padding has none that would write those of queries. */
  #clearGradients(): void {
    const { memory, shape, model } = this.#context;
    const { heads, kvHeads, headDimension } = model.config;
    const clear = (address: bigint, count: number) => floatsAt(address, shape.tokens * headDimension * count).fill(0);
    clear(memory.queryGradients, heads);
    clear(memory.keyGradients, kvHeads);
    clear(memory.valueGradients, kvHeads);
  }
}

/** Where the parts of a tile lie, as distances in values. */
class TileAddresses {
  readonly queries: bigint;
  readonly own: bigint;
  readonly prefix: bigint;
  /** Bytes from the scores of the prefix to those of the slot's own keys, in f32 and as operands. */
  readonly ownScores: bigint;
  readonly ownScoreOperands: bigint;
  readonly #operandBytes: bigint;

  constructor({ model, shape }: ReplicaContext, tile: AttentionTile, head: number, group: number, operandBytes: number) {
    const { headDimension: D } = model.config;
    const { tokens, slotTokens, blockTokens, prefixTokens } = shape;
    const slotStart = head * tokens + tile.slot * slotTokens;
    this.queries = BigInt((slotStart + tile.block * blockTokens) * group * D);
    this.own = BigInt((slotStart + tile.firstBlock * blockTokens) * D);
    this.prefix = BigInt(head * prefixTokens * D);
    this.ownScores = BigInt(prefixTokens * Float32Array.BYTES_PER_ELEMENT);
    this.ownScoreOperands = BigInt(prefixTokens * operandBytes);
    this.#operandBytes = BigInt(operandBytes);
  }

  queryOperand(base: bigint): bigint {
    return base + this.queries * this.#operandBytes;
  }

  ownOperand(base: bigint): bigint {
    return base + this.own * this.#operandBytes;
  }

  prefixOperand(base: bigint): bigint {
    return base + this.prefix * this.#operandBytes;
  }
}

function createTileKernels(context: ReplicaContext, group: number, ownTokens: number): TileKernels {
  const { products, model, shape } = context;
  const { headDimension: D } = model.config;
  const { tokens, prefixTokens, blockTokens, headsPerTile: heads } = shape;
  const type = products.operandType;
  const queryCount = blockTokens * group;
  const keyCount = prefixTokens + ownTokens;
  const queries: Layout = { dimensions: [heads, queryCount, D], strides: [tokens * group * D, D, 1] };
  const scores = (columns: number): Layout => ({
    dimensions: [heads, queryCount, columns],
    strides: [queryCount * keyCount, keyCount, 1],
  });
  const keys = (count: number, distance: number): Layout => ({ dimensions: [heads, count, D], strides: [distance * D, D, 1] });
  const kernelsFor = (count: number, distance: number, addsUp: boolean) => ({
    score: products.matmul({ ...queries, type }, transposed({ ...keys(count, distance), type }), scores(count)),
    mix: products.matmul({ ...scores(count), type }, { ...keys(count, distance), type }, queries, addsUp),
    gather: products.matmul(transposed({ ...scores(count), type }), { ...queries, type }, keys(count, distance), true),
  });
  const prefix = kernelsFor(prefixTokens, prefixTokens, false);
  const own = kernelsFor(ownTokens, tokens, true);
  const rows = heads * queryCount;
  return {
    ownTokens,
    scorePrefix: prefix.score,
    scoreOwn: own.score,
    softmax: products.softmax(rows, keyCount),
    softmaxBackward: context.graph((g) => {
      const [gradient, weights] = [g.input(0, [keyCount, rows]), g.input(1, [keyCount, rows])];
      g.result(0, g.ggml.ggml_soft_max_ext_back(g.context, gradient, weights, 1, 0));
    }),
    cast: context.cast(rows * keyCount),
    mixPrefix: prefix.mix,
    mixOwn: own.mix,
    gatherPrefix: prefix.gather,
    gatherOwn: own.gather,
  };
}

function transposed({ dimensions: [batch, rows, columns], strides: [s0, s1, s2], ...rest }: Layout): Layout {
  return { dimensions: [batch!, columns!, rows!], strides: [s0!, s2!, s1!], ...rest };
}
