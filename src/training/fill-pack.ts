import type { TrainingExample } from './examples.js';
import type { Pack, PackShape } from './pack.js';
import type { PackContents } from './pack-contents.js';

/** Lays out a pack for a step. */
export function fillPack(slots: PackContents, shape: PackShape): Pack {
  const { slotTokens, supervisedRows, entriesPerRow } = shape;
  const tokenCount = shape.slots * slotTokens;
  const pack: Pack = {
    shape,
    tokens: new Int32Array(tokenCount),
    positions: new Int32Array(tokenCount),
    segments: new Int32Array(tokenCount).fill(-1),
    rows: new Int32Array(supervisedRows),
    tokenIds: new Int32Array(supervisedRows * entriesPerRow),
    weights: new Float32Array(supervisedRows * entriesPerRow),
    supervisedTokens: 0,
    entries: 0,
    weightedLogprobSum: 0,
    conversations: 0,
  };
  slots.forEach((examples, slot) => {
    let at = slot * slotTokens;
    examples.forEach((example, segment) => {
      addExample(pack, example, at, segment);
      at += example.tokens.length;
    });
  });
  fillUnusedIds(pack);
  return pack;
}

function addExample(pack: Pack, example: TrainingExample, at: number, segment: number): void {
  const { entriesPerRow } = pack.shape;
  pack.tokens.set(example.tokens, at);
  pack.segments.fill(segment, at, at + example.tokens.length);
  for (let i = 0; i < example.tokens.length; i++) pack.positions[at + i] = i;
  let entry = 0;
  example.rows.forEach((row, index) => {
    const target = pack.supervisedTokens++;
    pack.rows[target] = at + row;
    const end = example.rowEnds[index]!;
    for (let slot = target * entriesPerRow; entry < end; entry++, slot++) {
      const logprob = example.logprobs[entry]!;
      const probability = Math.exp(logprob);
      pack.tokenIds[slot] = example.tokenIds[entry]!;
      pack.weights[slot] = probability;
      if (probability > 0) pack.weightedLogprobSum += probability * logprob;
      pack.entries++;
    }
  });
  pack.conversations++;
}

/** Ids of one row must differ, also where there is no entry: unused entries take the smallest ids that the row does not have. */
function fillUnusedIds(pack: Pack): void {
  const { supervisedRows, entriesPerRow } = pack.shape;
  for (let row = 0; row < supervisedRows; row++) {
    const ids = pack.tokenIds.subarray(row * entriesPerRow, (row + 1) * entriesPerRow);
    const weights = pack.weights.subarray(row * entriesPerRow, (row + 1) * entriesPerRow);
    const used = new Set<number>();
    ids.forEach((id, index) => {
      if (weights[index]! > 0) used.add(id);
    });
    let candidate = 0;
    ids.forEach((_, index) => {
      if (weights[index]! > 0) return;
      while (used.has(candidate)) candidate++;
      ids[index] = candidate++;
    });
  }
}
