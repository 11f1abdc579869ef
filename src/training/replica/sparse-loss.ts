/** Sparse targets of some rows: entry k of row r has `weights[r · entriesPerRow + k]` on class `ids[…]`; 0 where there is none. */
export interface SparseTargets {
  rows: number;
  entriesPerRow: number;
  ids: Int32Array;
  weights: Float32Array;
}

/** What a loss needs of a chunk's logits; memory for as many rows as a chunk has. */
export interface PickedLogits {
  /** [rows, entriesPerRow]: taken before softmax overwrites them. */
  entries: Float32Array;
  /** [rows]: log Σ exp of a row's logits; NaN where it is not known. */
  logSumExps: Float64Array;
}

/** Of a smaller probability too few digits may be left in f32. */
const LEAST_PROBABILITY = 1e-30;

/** Fills `picked.entries` from the logits. */
export function pickLogits(
  logits: Float32Array,
  vocabularySize: number,
  { rows, entriesPerRow, ids }: SparseTargets,
  { entries }: PickedLogits,
): void {
  for (let row = 0; row < rows; row++) {
    const start = row * vocabularySize;
    for (let entry = row * entriesPerRow; entry < (row + 1) * entriesPerRow; entry++)
      entries[entry] = logits[start + ids[entry]!]!;
  }
}

/**
 * Fills `picked.logSumExps`: the logit of a row's likeliest entry less the logarithm of its probability, which spares a pass over
 * all logits. Returns whether every row has an entry that is likely enough for that.
 */
export function deriveLogSumExps(
  probabilities: Float32Array,
  vocabularySize: number,
  { rows, entriesPerRow, ids }: SparseTargets,
  { entries, logSumExps }: PickedLogits,
): boolean {
  let isComplete = true;
  for (let row = 0; row < rows; row++) {
    let likeliest = row * entriesPerRow;
    for (let entry = likeliest + 1; entry < (row + 1) * entriesPerRow; entry++)
      if (entries[entry]! > entries[likeliest]!) likeliest = entry;
    const probability = probabilities[row * vocabularySize + ids[likeliest]!]!;
    const isKnown = probability > LEAST_PROBABILITY;
    logSumExps[row] = isKnown ? entries[likeliest]! - Math.log(probability) : Number.NaN;
    isComplete &&= isKnown;
  }
  return isComplete;
}

/** Computes what {@link deriveLogSumExps} left open, from the logits. */
export function sumOpenRows(
  logits: Float32Array,
  vocabularySize: number,
  { rows }: SparseTargets,
  { logSumExps }: PickedLogits,
): void {
  for (let row = 0; row < rows; row++) {
    if (!Number.isNaN(logSumExps[row])) continue;
    const values = logits.subarray(row * vocabularySize, (row + 1) * vocabularySize);
    const largest = values.reduce((a, b) => Math.max(a, b));
    logSumExps[row] = largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0));
  }
}

/** Σ −weight · log-probability, in doubles. */
export function sparseLoss({ rows, entriesPerRow, weights }: SparseTargets, { entries, logSumExps }: PickedLogits): number {
  let loss = 0;
  for (let row = 0; row < rows; row++) {
    for (let entry = row * entriesPerRow; entry < (row + 1) * entriesPerRow; entry++) {
      if (weights[entry]! > 0) loss += weights[entry]! * (logSumExps[row]! - entries[entry]!);
    }
  }
  return loss;
}

/**
 * Turns probabilities into probabilities − shares, in place: the gradient of the logits, for a row whose weights sum to 1.
 * Fills `sums` with the sum of each row's weights, by which the gradient of its hidden values is to be multiplied.
 */
export function subtractShares(
  probabilities: Float32Array,
  vocabularySize: number,
  { rows, entriesPerRow, ids, weights }: SparseTargets,
  sums: Float32Array,
): void {
  for (let row = 0; row < rows; row++) {
    const [first, end] = [row * entriesPerRow, (row + 1) * entriesPerRow];
    sums[row] = 0;
    for (let entry = first; entry < end; entry++) sums[row]! += weights[entry]!;
    if (sums[row] === 0) continue;
    for (let entry = first; entry < end; entry++) {
      probabilities[row * vocabularySize + ids[entry]!]! -= weights[entry]! / sums[row]!;
    }
  }
}
