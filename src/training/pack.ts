/** Fixed sizes of a pack: a training step is built for one shape and takes packs of it. */
export interface PackShape {
  /** Slots side by side; conversations of different slots never meet. */
  slots: number;
  slotTokens: number;
  /** Room for supervised tokens in the whole pack. */
  supervisedRows: number;
  /** Room for teacher entries of one supervised token. */
  entriesPerRow: number;
}

/** Several conversations side by side, ready for a training step. Arrays over tokens have slots · slotTokens elements. */
export interface Pack {
  shape: PackShape;
  tokens: Int32Array;
  /** Position inside the conversation, from 0; the step adds the cartridge's size. */
  positions: Int32Array;
  /** Which conversation a token belongs to, counted within its slot; −1 is padding. */
  segments: Int32Array;
  /** For each supervised token the index of the token that predicts it: the one before. */
  rows: Int32Array;
  /** Teacher entries, [rows, entriesPerRow]; ids of a row differ, entries that a row lacks have weight 0. */
  tokenIds: Int32Array;
  /** Teacher probabilities exp(P) of the entries, the cut mass not renormalised. */
  weights: Float32Array;
  supervisedTokens: number;
  entries: number;
  /** Σ exp(P) · P over all entries: what turns the cross-entropy into a KL divergence. */
  weightedLogprobSum: number;
  conversations: number;
}

/** Tokens of a pack that belong to a conversation. */
export function usedTokens(pack: Pack): number {
  return pack.segments.reduce((count, segment) => count + Number(segment >= 0), 0);
}
