import { OPERAND_BYTES } from '../../tensor/products/products.js';
import type { KeyBlocks } from './joint-keys.js';
import type { ReplicaContext } from './replica-context.js';
import type { AttentionTile } from './replica-unit.js';

/** A tile for one key/value head: what it sees, and where its parts lie, in every layer alike. */
export interface AttentionPart {
  tile: AttentionTile;
  /** Blocks of the slot that it sees behind the prefix. */
  blocks: number;
  /** Scores [keys, queries] that the mask hides, as pairs of the first one and the end. */
  hidden: Int32Array;
  at: TileAddresses;
}

/** Tiles of one slot whose keys begin with the same block: the last one sees the keys of all. */
export interface AttentionRun extends KeyBlocks {
  parts: AttentionPart[];
}

/** The attention of a unit, alike for all layers. */
export interface AttentionWork {
  runs: readonly AttentionRun[];
  /** First tokens of the blocks that no tile computes: padding. */
  idleTokens: readonly number[];
}

/** The work on the tiles of a unit, made once for all layers and both directions. */
export function attentionWorkOf(context: ReplicaContext, tiles: readonly AttentionTile[], starts: Int32Array): AttentionWork {
  const { tokens, slotTokens, blockTokens } = context.shape;
  const busy = new Set(tiles.map(({ slot, block }) => slot * slotTokens + block * blockTokens));
  const blockStarts = Array.from({ length: tokens / blockTokens }, (_, block) => block * blockTokens);
  return { runs: runsOf(context, tiles, starts), idleTokens: blockStarts.filter((start) => !busy.has(start)) };
}

function runsOf(context: ReplicaContext, tiles: readonly AttentionTile[], starts: Int32Array): AttentionRun[] {
  const runs: AttentionRun[] = [];
  for (const tile of tiles) {
    const { slot, firstBlock } = tile;
    const blocks = tile.block - firstBlock + 1;
    const hidden = hiddenScores(context, tile, starts);
    const parts = Array.from({ length: context.model.config.kvHeads }, (_, head) => ({
      tile,
      blocks,
      hidden,
      at: new TileAddresses(context, tile, head),
    }));
    const last = runs.at(-1);
    if (last?.slot === slot && last.firstBlock === firstBlock) {
      last.blocks = blocks;
      last.parts.push(...parts);
    } else runs.push({ slot, firstBlock, blocks, parts });
  }
  return runs;
}

/** Query heads that share their keys count as further queries. */
export function groupOf({ model }: ReplicaContext): number {
  return model.config.heads / model.config.kvHeads;
}

/** Where the parts of a tile lie, as distances in bytes: of f32 values and of operands. */
export class TileAddresses {
  readonly queries: bigint;
  readonly queryOperands: bigint;
  /** One f32 for each query. */
  readonly queryRows: bigint;
  readonly firstQueryRow: number;
  /** Among the joint rows. */
  readonly keys: bigint;
  readonly keyOperands: bigint;

  constructor(context: ReplicaContext, { slot, block }: AttentionTile, head: number) {
    const { headDimension: D } = context.model.config;
    const { tokens, slotTokens, blockTokens, prefixTokens } = context.shape;
    const queryRow = (head * tokens + slot * slotTokens + block * blockTokens) * groupOf(context);
    const keys = head * (prefixTokens + slotTokens) * D;
    const operandBytes = OPERAND_BYTES[context.products.operandType];
    this.firstQueryRow = queryRow;
    this.queryRows = BigInt(queryRow * OPERAND_BYTES.f32);
    this.queries = BigInt(queryRow * D * OPERAND_BYTES.f32);
    this.queryOperands = BigInt(queryRow * D * operandBytes);
    this.keys = BigInt(keys * OPERAND_BYTES.f32);
    this.keyOperands = BigInt(keys * operandBytes);
  }
}

/**
 * A token sees its conversation up to itself; padding sees itself, which keeps its values finite. So a key is seen from its own token
 * on, by those whose conversation began before it.
 */
function hiddenScores(context: ReplicaContext, { slot, block, firstBlock }: AttentionTile, starts: Int32Array): Int32Array {
  const { prefixTokens, blockTokens, slotTokens } = context.shape;
  const group = groupOf(context);
  const firstToken = block * blockTokens;
  const beginOf = (index: number) => {
    const start = starts[slot * slotTokens + firstToken + index]!;
    return start < 0 ? firstToken + index : start;
  };
  const pairs: number[] = [];
  let row = prefixTokens * blockTokens * group;
  // A conversation never begins before the one to its left.
  let end = 0;
  for (let key = firstBlock * blockTokens; key < firstToken + blockTokens; key++, row += blockTokens * group) {
    while (end < blockTokens && beginOf(end) <= key) end++;
    const first = Math.min(Math.max(key - firstToken, 0), end);
    if (first > 0) pairs.push(row, row + first * group);
    if (end < blockTokens) pairs.push(row + end * group, row + blockTokens * group);
  }
  return Int32Array.from(pairs);
}
