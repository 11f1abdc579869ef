import type { Pack } from '../pack.js';
import type { ReplicaShape } from './replica-shape.js';

/** The work of a replica: some slots of a pack, each lengthened to whole blocks. Plain data, sent to a worker. */
export interface ReplicaUnit {
  /** Arrays over tokens have slots · slotTokens elements. */
  tokens: Int32Array;
  /** Positions behind the cartridge. */
  positions: Int32Array;
  /** For each token the place in its slot where its conversation begins; −1 is padding. */
  starts: Int32Array;
  /** The token that predicts each supervised one. */
  rows: Int32Array;
  /** Teacher entries, [rows, entriesPerRow]; weight 0 where a row has none. */
  tokenIds: Int32Array;
  weights: Float32Array;
}

/** Some tokens of a slot as queries, and the first block of keys that one of them sees. */
export interface AttentionTile {
  slot: number;
  block: number;
  firstBlock: number;
}

/** Cuts a pack into units; those in which no token is supervised have no gradient and are left out. */
export function cutPack(pack: Pack, shape: ReplicaShape): ReplicaUnit[] {
  const count = pack.shape.slots / shape.slots;
  const units = Array.from({ length: count }, (_, index) => cutUnit(pack, shape, index * shape.slots));
  return units.filter(({ rows }) => rows.length > 0);
}

function cutUnit(pack: Pack, shape: ReplicaShape, firstSlot: number): ReplicaUnit {
  const unit: ReplicaUnit = {
    tokens: new Int32Array(shape.tokens),
    positions: new Int32Array(shape.tokens).fill(shape.prefixTokens),
    starts: new Int32Array(shape.tokens).fill(-1),
    ...cutTargets(pack, shape, firstSlot),
  };
  for (let slot = 0; slot < shape.slots; slot++) {
    const from = (firstSlot + slot) * shape.packSlotTokens;
    const to = slot * shape.slotTokens;
    for (let token = 0; token < shape.packSlotTokens; token++) {
      unit.tokens[to + token] = pack.tokens[from + token]!;
      unit.positions[to + token] = pack.positions[from + token]! + shape.prefixTokens;
      unit.starts[to + token] = startOf(pack.segments, from, token, unit.starts[to + token - 1]);
    }
  }
  return unit;
}

/** Conversations are contiguous within a slot: one begins where the number changes. */
function startOf(segments: Int32Array, slotStart: number, token: number, previous: number | undefined): number {
  const segment = segments[slotStart + token]!;
  if (segment < 0) return -1;
  return token > 0 && segments[slotStart + token - 1] === segment ? previous! : token;
}

function cutTargets(pack: Pack, shape: ReplicaShape, firstSlot: number) {
  const { entriesPerRow, packSlotTokens, slotTokens } = shape;
  const first = firstSlot * packSlotTokens;
  const end = first + shape.slots * packSlotTokens;
  const chosen: number[] = [];
  for (let target = 0; target < pack.supervisedTokens; target++) {
    if (pack.rows[target]! >= first && pack.rows[target]! < end) chosen.push(target);
  }
  const tokenIds = new Int32Array(chosen.length * entriesPerRow);
  const weights = new Float32Array(chosen.length * entriesPerRow);
  const rows = Int32Array.from(chosen, (target, index) => {
    const entries = [target * entriesPerRow, (target + 1) * entriesPerRow] as const;
    tokenIds.set(pack.tokenIds.subarray(...entries), index * entriesPerRow);
    weights.set(pack.weights.subarray(...entries), index * entriesPerRow);
    const place = pack.rows[target]! - first;
    return Math.floor(place / packSlotTokens) * slotTokens + (place % packSlotTokens);
  });
  return { rows, tokenIds, weights };
}

/** The tiles of a unit: blocks of queries that hold a conversation, each with the keys that it needs. */
export function tilesOf({ starts }: ReplicaUnit, { slots, slotTokens, blockTokens }: ReplicaShape): AttentionTile[] {
  const tiles: AttentionTile[] = [];
  for (let slot = 0; slot < slots; slot++) {
    for (let block = 0; block * blockTokens < slotTokens; block++) {
      const first = slot * slotTokens + block * blockTokens;
      const visible = starts.subarray(first, first + blockTokens).filter((start) => start >= 0);
      if (visible.length > 0) tiles.push({ slot, block, firstBlock: Math.floor(Math.min(...visible) / blockTokens) });
    }
  }
  return tiles;
}
