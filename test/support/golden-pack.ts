import type { Pack } from '../../src/training/pack.js';
import type { LossKind } from '../../src/training/training-step.js';
import { type Golden, rowsByLayer } from './golden.js';

/** The golden pack: one slot with both conversations, the targets spread over chunks. */
export function goldenPack(golden: Golden): Pack {
  const { tokens, positions, segments } = golden.pack;
  const { logits_row: logitsRow, token_id: tokenId, logprob } = golden.targets;
  const rows = [...new Set(logitsRow)];
  const k = Math.max(...rows.map((row) => logitsRow.filter((other) => other === row).length));
  const tokenIds = new Int32Array(rows.length * k).fill(-1);
  const weights = new Float32Array(rows.length * k);
  const filled = new Map<number, number>();
  let weightedLogprobSum = 0;
  logitsRow.forEach((row, entry) => {
    const count = filled.get(row) ?? 0;
    filled.set(row, count + 1);
    tokenIds[rows.indexOf(row) * k + count] = tokenId[entry]!;
    weights[rows.indexOf(row) * k + count] = Math.exp(logprob[entry]!);
    weightedLogprobSum += Math.exp(logprob[entry]!) * logprob[entry]!;
  });
  for (let row = 0; row < rows.length; row++) {
    const ids = tokenIds.subarray(row * k, (row + 1) * k);
    ids.forEach((id, index) => {
      if (id < 0)
        ids[index] = Array.from({ length: k + 1 }, (_, candidate) => candidate).find((candidate) => !ids.includes(candidate))!;
    });
  }
  return {
    shape: { slots: 1, slotTokens: tokens.length, supervisedRows: rows.length, entriesPerRow: k },
    tokens: Int32Array.from(tokens),
    positions: Int32Array.from(positions, (position) => position - golden.cartridge.rows),
    segments: Int32Array.from(segments),
    rows: Int32Array.from(rows),
    tokenIds,
    weights,
    supervisedTokens: golden.targets.supervised_tokens,
    entries: golden.targets.entries,
    weightedLogprobSum,
    conversations: 2,
  };
}

/** What a training step over the golden pack is made of. */
export function goldenStepOptions(golden: Golden, loss: LossKind) {
  const { rows, frozen_rows: frozenCount } = golden.cartridge;
  return {
    shape: goldenPack(golden).shape,
    keys: rowsByLayer(golden, 'cartridge.keys', rows),
    values: rowsByLayer(golden, 'cartridge.values', rows),
    frozenCount,
    loss,
    // Two rows a chunk: the chunks of a large vocabulary must join to the same gradient.
    logitChunkBytes: golden.model.vocab * 4 * 2,
  };
}
