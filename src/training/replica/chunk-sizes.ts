/** The last rows of a unit go through the smallest of these shares of a chunk that holds them. */
const SHARES = [1 / 4, 1 / 2, 3 / 4, 1];

/** Sizes of chunks, ascending. A unit has any number of rows, and a chunk costs all of its rows however few are used. */
export function chunkSizes(chunkRows: number): number[] {
  return [...new Set(SHARES.map((share) => Math.ceil(chunkRows * share)))];
}

/** The smallest chunk that holds so many rows, or the largest there is; chunks ascend. */
export function fittingChunk<Chunk extends { rows: number }>(chunks: readonly Chunk[], rows: number): Chunk {
  return chunks.find((chunk) => chunk.rows >= rows) ?? chunks.at(-1)!;
}
