/** Rows that lie a multiple of this apart have the values of a column in few sets of a processor's cache. */
const CROWDING_BYTES = 1_024;
const CACHE_LINE_BYTES = 64;

/**
 * How far apart rows of so many bytes should lie for code that reads a matrix where it lies, column by column. By [1536, 576], which is
 * the way back through a matrix, oneDNN 2.6 and 3.2 multiply in f32 at 55 GFLOPS and with rows so far apart at 85, by [2048, 2048] at 39 and
 * 83 (AVX2, Zen 3, one core).
 */
export function spacedRowBytes(rowBytes: number): number {
  return rowBytes % CROWDING_BYTES === 0 ? rowBytes + CACHE_LINE_BYTES : rowBytes;
}

/** Puts `count` rows without gaps into memory where rows may lie apart, from the row `first` on. */
export function writeRows(memory: Uint8Array, rows: Uint8Array, count: number, distanceBytes?: number, first = 0): void {
  const rowBytes = rows.length / count;
  for (let row = 0; row < count; row++) {
    memory.set(rows.subarray(row * rowBytes, (row + 1) * rowBytes), (first + row) * (distanceBytes ?? rowBytes));
  }
}
