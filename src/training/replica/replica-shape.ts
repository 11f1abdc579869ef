import type { ModelConfig } from '../../models/model-config.js';
import type { PackShape } from '../pack.js';

/** Fixed sizes of the work that a replica does at a time: some slots of a pack. */
export interface ReplicaShape {
  slots: number;
  /** Whole blocks: a little more than the slots of the pack have, where those do not divide. */
  slotTokens: number;
  /** Attention goes block by block: so many queries of one slot see so many keys at a time. */
  blockTokens: number;
  /** slots · slotTokens */
  tokens: number;
  /** Rows of the cartridge. */
  prefixTokens: number;
  /** Supervised rows that go through the output at a time. */
  chunkRows: number;
  entriesPerRow: number;
  /** Tokens of a slot of the pack, before it is lengthened to whole blocks. */
  packSlotTokens: number;
  /**
   * So many of the first layers keep only what comes in and share the memory of the rest. The backward pass computes their forward
   * pass again, but for the last of them, whose results are still there. 0, or at least 2: one layer has nobody to share with.
   */
  recomputedLayers: number;
}

/** Queries of a tile, all heads of a group counted: fewer make the products small, more waste work on what the mask hides. */
const TILE_QUERIES = 192;
/** Rows that a product with a frozen matrix should have at least: a replica streams all weights once for each unit. */
const ENOUGH_TOKENS = 128;
const MIN_CHUNK_ROWS = 16;
const MAX_CHUNK_ROWS = 256;

/**
 * Chooses the work of a replica: a pack is cut into as many equal units as there are workers, as long as its slots divide and
 * a unit keeps enough tokens.
 */
export function chooseReplicaShape(
  config: ModelConfig,
  pack: PackShape,
  options: { workers: number; prefixTokens: number; logitChunkBytes: number; recomputedLayers: number },
): ReplicaShape {
  const { workers, prefixTokens, logitChunkBytes, recomputedLayers } = options;
  const group = config.heads / config.kvHeads;
  const blocks = Math.ceil(pack.slotTokens / Math.ceil(TILE_QUERIES / group));
  const blockTokens = Math.ceil(pack.slotTokens / blocks);
  const slotTokens = blocks * blockTokens;
  const slots = pack.slots / unitsOf(pack, workers);
  const affordableRows = Math.floor(logitChunkBytes / (config.vocabularySize * Float32Array.BYTES_PER_ELEMENT));
  const chunkRows = Math.max(MIN_CHUNK_ROWS, Math.min(MAX_CHUNK_ROWS, affordableRows));
  return {
    slots,
    slotTokens,
    blockTokens,
    tokens: slots * slotTokens,
    prefixTokens,
    chunkRows: Math.min(chunkRows, slots * slotTokens, pack.supervisedRows),
    entriesPerRow: pack.entriesPerRow,
    packSlotTokens: pack.slotTokens,
    recomputedLayers,
  };
}

/** The largest number of equal units, up to one for each worker, that have enough tokens. */
function unitsOf({ slots, slotTokens }: PackShape, workers: number): number {
  const fewest = Math.ceil(ENOUGH_TOKENS / slotTokens);
  return largestDivisor(slots, Math.max(1, Math.min(workers, Math.floor(slots / fewest))));
}

function largestDivisor(value: number, limit: number): number {
  let divisor = Math.min(value, Math.floor(limit));
  while (value % divisor !== 0) divisor--;
  return divisor;
}
