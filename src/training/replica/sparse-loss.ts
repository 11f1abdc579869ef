/** Sparse targets of some rows: entry k of row r has `weights[r · entriesPerRow + k]` on class `ids[…]`; 0 where there is none. */
export interface SparseTargets {
  rows: number;
  entriesPerRow: number;
  ids: Int32Array;
  weights: Float32Array;
}

/** The logits that a loss needs, taken before softmax overwrites them; memory for as many rows as a chunk has. */
export interface PickedLogits {
  /** [rows, entriesPerRow] */
  entries: Float32Array;
  /** [rows]: the largest, and which class has it. */
  largest: Float32Array;
  classes: Int32Array;
}

/** Fills `picked` from the logits, but for its classes, which are known. */
export function pickLogits(
  logits: Float32Array,
  vocabularySize: number,
  { rows, entriesPerRow, ids }: SparseTargets,
  { entries, largest, classes }: PickedLogits,
): void {
  for (let row = 0; row < rows; row++) {
    const start = row * vocabularySize;
    largest[row] = logits[start + classes[row]!]!;
    for (let entry = row * entriesPerRow; entry < (row + 1) * entriesPerRow; entry++)
      entries[entry] = logits[start + ids[entry]!]!;
  }
}

/**
 * Σ −weight · log-probability, in doubles. log Σ exp is the largest logit less the logarithm of its probability, which cannot
 * underflow.
 */
export function sparseLoss(
  probabilities: Float32Array,
  vocabularySize: number,
  { rows, entriesPerRow, weights }: SparseTargets,
  { entries, largest, classes }: PickedLogits,
): number {
  let loss = 0;
  for (let row = 0; row < rows; row++) {
    const logSumExp = largest[row]! - Math.log(probabilities[row * vocabularySize + classes[row]!]!);
    for (let entry = row * entriesPerRow; entry < (row + 1) * entriesPerRow; entry++) {
      if (weights[entry]! > 0) loss += weights[entry]! * (logSumExp - entries[entry]!);
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
