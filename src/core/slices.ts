import { setImmediate } from 'node:timers/promises';

/** Values of a slice: Adam, the slowest work on slices, takes about half a millisecond for so many. */
export const SLICE_VALUES = 1 << 16;

/**
 * Works through arrays from the start of the first to the end of the last, in slices between which the event loop has its turn:
 * what would hold it up as a whole hardly delays it. Slices begin at multiples of `unit` values.
 */
export async function inSlices(
  arrays: readonly { readonly length: number }[],
  work: (index: number, first: number, end: number) => void,
  unit = 1,
): Promise<void> {
  const most = Math.max(1, Math.floor(SLICE_VALUES / unit)) * unit;
  let values = 0;
  for (const [index, { length }] of arrays.entries()) {
    for (let first = 0; first < length; first += most) {
      const end = Math.min(first + most, length);
      work(index, first, end);
      values += end - first;
      // Turns cost time too: many small arrays share one.
      if (values < most) continue;
      await setImmediate();
      values = 0;
    }
  }
}

/** Copies of arrays, made in slices. Memory is asked for array by array, since zeroing all of it would be long work by itself. */
export async function copyInSlices(arrays: readonly Float32Array[]): Promise<Float32Array[]> {
  const copies: Float32Array[] = [];
  await inSlices(arrays, (index, first, end) => {
    copies[index] ??= new Float32Array(arrays[index]!.length);
    copies[index].set(arrays[index]!.subarray(first, end), first);
  });
  return copies;
}
