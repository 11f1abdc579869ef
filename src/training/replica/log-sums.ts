/** With the first weight of a row below this, its logarithm is not that of a normal f32 with all its digits. */
const SMALLEST_WEIGHT = 1e-30;

/** Copies the first score of each row of `columns` scores. */
export function noteFirstScores(scores: Float32Array, columns: number, firstScores: Float32Array): void {
  for (let row = 0; row < firstScores.length; row++) firstScores[row] = scores[row * columns]!;
}

/**
 * log Σ exp(scores) of each row, from its first score and the weight that softmax made of it: w₀ = exp(s₀ − log Σ exp). `weights` has rows
 * of `columns`; writes to `sums` from `at` on. False where a first weight is too small to tell.
 */
export function deriveLogSums(
  weights: Float32Array,
  columns: number,
  firstScores: Float32Array,
  sums: Float32Array,
  at: number,
): boolean {
  let isKnown = true;
  for (let row = 0; row < firstScores.length; row++) {
    const weight = weights[row * columns]!;
    if (weight < SMALLEST_WEIGHT) isKnown = false;
    sums[at + row] = firstScores[row]! - Math.log(weight);
  }
  return isKnown;
}

/** log Σ exp(scores) of `rows` rows of `columns` scores, one after the other. */
export function addUpLogSums(scores: Float32Array, rows: number, columns: number, sums: Float32Array, at: number): void {
  for (let row = 0; row < rows; row++) {
    const values = scores.subarray(row * columns, (row + 1) * columns);
    const largest = values.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
    sums[at + row] = largest + Math.log(values.reduce((sum, value) => sum + Math.exp(value - largest), 0));
  }
}
