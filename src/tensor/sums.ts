/** Adds values to a sum, in place. */
export function addTo(sum: Float32Array, values: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i]! += values[i]!;
}

/** A sum with the squares of values added to it, in doubles. */
export function addSquares(sum: number, values: Float32Array): number {
  let total = sum;
  for (let i = 0; i < values.length; i++) total += values[i]! * values[i]!;
  return total;
}
