import { OPERAND_BYTES } from '../../tensor/products/products.js';
import type { KeyBlocks } from './joint-keys.js';
import type { ReplicaContext } from './replica-context.js';
import type { AttentionTile } from './replica-unit.js';

/** A tile for one key/value head: what it sees, and where its parts lie, in every layer alike. */
export interface AttentionPart {
  tile: AttentionTile;
  /** Blocks of the slot that it sees behind the prefix. */
  blocks: number;
  /** Scores that the mask hides, as pairs of the first one and the end: by query and by key. */
  hidden: HiddenScores;
  at: TileAddresses;
}

/** The same pairs of a query and a key, in scores [queries, keys] and in scores [keys, queries]. */
export interface HiddenScores {
  byQuery: Int32Array;
  byKey: Int32Array;
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

/** A token sees its conversation up to itself; padding sees itself, which keeps its values finite. */
function hiddenScores(context: ReplicaContext, { slot, block, firstBlock }: AttentionTile, starts: Int32Array): HiddenScores {
  const { prefixTokens, blockTokens, slotTokens } = context.shape;
  const ownTokens = (block - firstBlock + 1) * blockTokens;
  const firstKey = firstBlock * blockTokens;
  const seenFrom = Array.from({ length: blockTokens }, (_, index) => {
    const token = block * blockTokens + index;
    const start = starts[slot * slotTokens + token]!;
    return { from: (start < 0 ? token : start) - firstKey, end: token + 1 - firstKey };
  });
  const group = groupOf(context);
  return {
    byQuery: hiddenByQuery(seenFrom, group, prefixTokens, ownTokens),
    byKey: hiddenByKey(seenFrom, group, prefixTokens, ownTokens),
  };
}

/** The own keys that a token sees. */
interface Sight {
  from: number;
  end: number;
}

function hiddenByQuery(sights: readonly Sight[], group: number, prefixTokens: number, ownTokens: number): Int32Array {
  const pairs: number[] = [];
  let row = prefixTokens;
  for (const { from, end } of sights) {
    for (let member = 0; member < group; member++, row += prefixTokens + ownTokens) {
      if (from > 0) pairs.push(row, row + from);
      if (end < ownTokens) pairs.push(row + end, row + ownTokens);
    }
  }
  return Int32Array.from(pairs);
}

/** A key is seen from its own token on, by those whose conversation began before it: `from` never falls from one to the next. */
function hiddenByKey(sights: readonly Sight[], group: number, prefixTokens: number, ownTokens: number): Int32Array {
  const pairs: number[] = [];
  const count = sights.length;
  let end = 0;
  for (let key = 0; key < ownTokens; key++) {
    while (end < count && sights[end]!.from <= key) end++;
    const first = Math.min(Math.max(key - (ownTokens - count), 0), end);
    const row = (prefixTokens + key) * count * group;
    if (first > 0) pairs.push(row, row + first * group);
    if (end < count) pairs.push(row + end * group, row + count * group);
  }
  return Int32Array.from(pairs);
}
