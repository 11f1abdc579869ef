import { floatsAt } from '../../tensor/native-memory.js';
import { dense, type Kernel, type Layout, OPERAND_BYTES } from '../../tensor/products/products.js';
import { JointKeys, type KeyBlocks, type PrefixMemory } from './joint-keys.js';
import type { Cast, ReplicaContext } from './replica-context.js';
import type { LayerMemory } from './replica-memory.js';
import type { AttentionTile } from './replica-unit.js';

/** Kernels for a tile and one key/value head: the prefix is seen, and behind it `ownTokens` keys of the slot. */
interface TileKernels {
  ownTokens: number;
  /** queries · keysᵀ. Addresses: queries, keys, scores. */
  score: Kernel;
  softmax: Kernel;
  softmaxBackward: Kernel;
  cast: Cast;
  /** scores · values. Addresses: scores, values, result. */
  mix: Kernel;
  /** scoresᵀ · queries, to the gradient of keys or values: of all of them, or of the prefix's. */
  gather: Gather;
  gatherPrefix: Gather;
}

/** A product that begins a sum, and one that adds to it. Addresses: scores, queries, gradient. */
interface Gather {
  begin: Kernel;
  add: Kernel;
}

/** A tile for one key/value head: what runs there, and where its parts lie, in every layer alike. */
interface AttentionPart {
  kernels: TileKernels;
  tile: AttentionTile;
  /** Scores of keys that queries may not see, as pairs of the first one and the end. */
  hidden: Int32Array;
  at: TileAddresses;
}

/** Tiles of one slot whose keys begin with the same block: the last one sees the keys of all. */
interface AttentionRun extends KeyBlocks {
  parts: AttentionPart[];
}

/** The attention of a unit, alike for all layers. */
export interface AttentionWork {
  runs: readonly AttentionRun[];
  /** Gradients of queries that no tile computes: those of padding. */
  idle: readonly Float32Array[];
}

/**
 * Attention tile by tile: some queries of a slot, for one head, see the prefix and the blocks of their slot that hold keys
 * of their conversations, up to their own. Blocks that the mask hides are not computed, and scores of one tile exist at a
 * time: they stay in the core's cache. The backward pass computes them again.
 *
 * The query heads of a group share their keys: they count as further queries.
 */
export class Attention {
  readonly #context: ReplicaContext;
  readonly #group: number;
  readonly #kernels: TileKernels[];
  readonly #keys: JointKeys;
  readonly #scores: Float32Array;
  readonly #queryGradients: Float32Array;
  /** Of keys and values. */
  readonly #gradients: readonly Float32Array[];

  constructor(context: ReplicaContext) {
    const { config } = context.model;
    const { blockTokens, slotTokens, prefixTokens } = context.shape;
    this.#context = context;
    this.#group = config.heads / config.kvHeads;
    this.#kernels = Array.from({ length: slotTokens / blockTokens }, (_, index) =>
      createTileKernels(context, this.#group, (index + 1) * blockTokens),
    );
    this.#keys = new JointKeys(context);
    this.#scores = floatsAt(context.memory.scores, blockTokens * this.#group * (prefixTokens + slotTokens));
    const { memory, shape } = context;
    const view = (address: bigint, count: number) => floatsAt(address, shape.tokens * config.headDimension * count);
    this.#queryGradients = view(memory.queryGradients, config.heads);
    this.#gradients = [memory.keyGradients, memory.valueGradients].map((address) => view(address, config.kvHeads));
  }

  /** The work on the tiles of a unit, made once for all layers and both directions. */
  workOn(tiles: readonly AttentionTile[], starts: Int32Array): AttentionWork {
    return { runs: this.#runsOf(tiles, starts), idle: this.#idleBeside(tiles) };
  }

  #runsOf(tiles: readonly AttentionTile[], starts: Int32Array): AttentionRun[] {
    const runs: AttentionRun[] = [];
    for (const tile of tiles) {
      const { slot, firstBlock } = tile;
      const blocks = tile.block - firstBlock + 1;
      const kernels = this.#kernels[blocks - 1]!;
      const hidden = this.#hiddenScores(tile, kernels.ownTokens, starts);
      const parts = Array.from({ length: this.#context.model.config.kvHeads }, (_, head) => ({
        kernels,
        tile,
        hidden,
        at: new TileAddresses(this.#context, tile, head, this.#group),
      }));
      const last = runs.at(-1);
      if (last?.slot === slot && last.firstBlock === firstBlock) {
        last.blocks = blocks;
        last.parts.push(...parts);
      } else runs.push({ slot, firstBlock, blocks, parts });
    }
    return runs;
  }

  #idleBeside(tiles: readonly AttentionTile[]): Float32Array[] {
    const { model, shape } = this.#context;
    const { kvHeads, headDimension } = model.config;
    const { tokens, slotTokens, blockTokens } = shape;
    const rowValues = this.#group * headDimension;
    const busy = new Set(tiles.map(({ slot, block }) => slot * slotTokens + block * blockTokens));
    const starts = Array.from({ length: tokens / blockTokens }, (_, block) => block * blockTokens);
    const idle = starts.filter((start) => !busy.has(start));
    return Array.from({ length: kvHeads }, (_, head) => head * tokens).flatMap((ofHead) =>
      idle.map((start) => {
        const first = ofHead + start;
        return this.#queryGradients.subarray(first * rowValues, (first + blockTokens) * rowValues);
      }),
    );
  }

  /** Fills `mixed`, [Hkv, tokens, group, D], from a layer's queries, keys and values. */
  forward(layer: LayerMemory, prefix: PrefixMemory, { runs }: AttentionWork): void {
    const { memory } = this.#context;
    this.#keys.loadPrefix(prefix);
    for (const run of runs) {
      this.#keys.loadBlocks(run, layer);
      for (const part of run.parts) {
        const { kernels, at } = part;
        this.#weigh(layer, part);
        const weights = kernels.cast(memory.scores, memory.scoreOperands);
        kernels.mix(weights, memory.jointValues + at.keyOperands, memory.mixed + at.queries);
      }
    }
  }

  /**
   * From the gradient of `mixed` (operands) to those of queries, keys and values; adds to the prefix's. Without `wantsOwn`
   * the prefix's alone are computed: nothing lies below the first layer that needs another.
   */
  backward(layer: LayerMemory, prefix: PrefixMemory, { runs, idle }: AttentionWork, wantsOwn: boolean): void {
    // Blocks are added to the gradients of keys and values.
    if (wantsOwn) for (const gradient of [...this.#gradients, ...idle]) gradient.fill(0);
    this.#keys.loadPrefix(prefix);
    for (const run of runs) {
      this.#keys.loadBlocks(run, layer);
      // The last tile sees all keys of the run: it begins the sums to which the others add.
      const last = run.parts.at(-1)!.tile;
      for (let index = run.parts.length - 1; index >= 0; index--) {
        const part = run.parts[index]!;
        const { begin, add } = wantsOwn ? part.kernels.gather : part.kernels.gatherPrefix;
        this.#partBackward(layer, part, part.tile === last ? begin : add, wantsOwn);
      }
      this.#keys.addPrefixGradients(prefix);
      if (wantsOwn) this.#keys.addBlockGradients(run);
    }
  }

  #partBackward(layer: LayerMemory, part: AttentionPart, gather: Kernel, wantsOwn: boolean): void {
    const { kernels, at } = part;
    const { memory } = this.#context;
    const mixedGradients = memory.mixedGradients + at.queryOperands;
    this.#weigh(layer, part);
    const weights = kernels.cast(memory.scores, memory.scoreOperands);
    gather(weights, mixedGradients, memory.jointValueGradients + at.keys);

    kernels.score(mixedGradients, memory.jointValues + at.keyOperands, memory.scoreGradients);
    kernels.softmaxBackward(memory.scoreGradients, memory.scores);
    const gradients = kernels.cast(memory.scoreGradients, memory.scoreGradientOperands);
    gather(gradients, layer.queries + at.queryOperands, memory.jointKeyGradients + at.keys);
    if (wantsOwn) kernels.mix(gradients, memory.jointKeys + at.keyOperands, memory.queryGradients + at.queries);
  }

  /** softmax(queries · keysᵀ) with what a query may not see at 0. */
  #weigh(layer: LayerMemory, { kernels, hidden, at }: AttentionPart): void {
    const { scores, jointKeys } = this.#context.memory;
    kernels.score(layer.queries + at.queryOperands, jointKeys + at.keyOperands, scores);
    for (let pair = 0; pair < hidden.length; pair += 2) {
      this.#scores.fill(Number.NEGATIVE_INFINITY, hidden[pair], hidden[pair + 1]);
    }
    kernels.softmax(scores, scores);
  }

  /** A token sees its conversation up to itself; padding sees itself, which keeps its values finite. */
  #hiddenScores({ slot, block, firstBlock }: AttentionTile, ownTokens: number, starts: Int32Array): Int32Array {
    const { prefixTokens, blockTokens, slotTokens } = this.#context.shape;
    const pairs: number[] = [];
    let row = prefixTokens;
    for (let token = block * blockTokens; token < (block + 1) * blockTokens; token++) {
      const start = starts[slot * slotTokens + token]!;
      const from = (start < 0 ? token : start) - firstBlock * blockTokens;
      const end = token + 1 - firstBlock * blockTokens;
      for (let member = 0; member < this.#group; member++, row += prefixTokens + ownTokens) {
        if (from > 0) pairs.push(row, row + from);
        if (end < ownTokens) pairs.push(row + end, row + ownTokens);
      }
    }
    return Int32Array.from(pairs);
  }
}

/** Where the parts of a tile lie, as distances in bytes: of f32 values and of operands. */
class TileAddresses {
  readonly queries: bigint;
  readonly queryOperands: bigint;
  /** Among the joint rows. */
  readonly keys: bigint;
  readonly keyOperands: bigint;

  constructor({ model, shape, products }: ReplicaContext, { slot, block }: AttentionTile, head: number, group: number) {
    const { headDimension: D } = model.config;
    const { tokens, slotTokens, blockTokens, prefixTokens } = shape;
    const queries = (head * tokens + slot * slotTokens + block * blockTokens) * group * D;
    const keys = head * (prefixTokens + slotTokens) * D;
    const operandBytes = OPERAND_BYTES[products.operandType];
    this.queries = BigInt(queries * OPERAND_BYTES.f32);
    this.queryOperands = BigInt(queries * operandBytes);
    this.keys = BigInt(keys * OPERAND_BYTES.f32);
    this.keyOperands = BigInt(keys * operandBytes);
  }
}

/** Every matrix of a tile lies without gaps, and has two dimensions: oneDNN's fastest code wants both. */
function createTileKernels(context: ReplicaContext, group: number, ownTokens: number): TileKernels {
  const { products, model, shape } = context;
  const { headDimension: D } = model.config;
  const type = products.operandType;
  const queryCount = shape.blockTokens * group;
  const keyCount = shape.prefixTokens + ownTokens;
  const [queries, keys, scores] = [dense([queryCount, D]), dense([keyCount, D]), dense([queryCount, keyCount])];
  const [queryOperands, keyOperands] = [dense([queryCount, D], type), dense([keyCount, D], type)];
  const scoreOperands = dense([queryCount, keyCount], type);
  const gather = (weights: Layout, gradient: Layout): Gather => ({
    begin: products.matmul(transposed(weights), queryOperands, gradient),
    add: products.matmul(transposed(weights), queryOperands, gradient, true),
  });
  const prefixScores = { ...scoreOperands, dimensions: [queryCount, shape.prefixTokens] };
  return {
    ownTokens,
    score: products.matmul(queryOperands, transposed(keyOperands), scores),
    softmax: products.softmax(queryCount, keyCount),
    softmaxBackward: context.graph((g) => {
      const [gradient, weights] = [g.input(0, [keyCount, queryCount]), g.input(1, [keyCount, queryCount])];
      g.result(0, g.ggml.ggml_soft_max_ext_back(g.context, gradient, weights, 1, 0));
    }),
    cast: context.cast(queryCount * keyCount),
    mix: products.matmul(scoreOperands, keyOperands, queries),
    gather: gather(scoreOperands, keys),
    gatherPrefix: gather(prefixScores, dense([shape.prefixTokens, D])),
  };
}

function transposed({ dimensions: [rows, columns], strides: [s0, s1], ...rest }: Layout): Layout {
  return { dimensions: [columns!, rows!], strides: [s1!, s0!], ...rest };
}
