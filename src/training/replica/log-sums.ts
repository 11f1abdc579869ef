/** Sums between these are far from what an f32 cannot hold, and so are the weights that they are made of. */
const [LEAST_SUM, MOST_SUM] = [1e-30, 1e30];

/** Whether the sums of weights tell everything: none overflowed, and none lost its digits. */
export function areKnown(sums: Float32Array): boolean {
  for (let index = 0; index < sums.length; index++) {
    const sum = sums[index]!;
    if (!(sum > LEAST_SUM && sum < MOST_SUM)) return false;
  }
  return true;
}

/** Adds the logarithms of some sums to values from `at` on. */
export function addLogs(values: Float32Array, at: number, sums: Float32Array): void {
  for (let index = 0; index < sums.length; index++) values[at + index]! += Math.log(sums[index]!);
}

/** Adds the largest of each column of scores, [keys, queries], to values from `at` on. */
export function addLargest(values: Float32Array, at: number, scores: Float32Array, keys: number, queries: number): void {
  for (let query = 0; query < queries; query++) {
    let largest = Number.NEGATIVE_INFINITY;
    for (let key = 0; key < keys; key++) largest = Math.max(largest, scores[key * queries + query]!);
    values[at + query]! += largest;
  }
}
