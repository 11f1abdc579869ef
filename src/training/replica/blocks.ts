/** Values that element-wise kernels work on at a time: they stay in a core's cache while several passes go over them. */
export const BLOCK_VALUES = 32 << 10;

/** Some rows, beginning with the row number `first`, and the kernels for as many. */
export interface Block<Kernels> {
  first: number;
  kernels: Kernels;
}

/** Cuts `rows` rows of `rowValues` values into blocks of about the same size. Kernels are made once for each size. */
export function cutIntoBlocks<Kernels>(rows: number, rowValues: number, create: (rows: number) => Kernels): Block<Kernels>[] {
  const mostRows = Math.max(1, Math.floor(BLOCK_VALUES / rowValues));
  const blockRows = Math.ceil(rows / Math.ceil(rows / mostRows));
  const kernelsBySize = new Map<number, Kernels>();
  const kernelsFor = (size: number): Kernels => {
    const kernels = kernelsBySize.get(size) ?? create(size);
    kernelsBySize.set(size, kernels);
    return kernels;
  };
  const starts = Array.from({ length: Math.ceil(rows / blockRows) }, (_, index) => index * blockRows);
  return starts.map((first) => ({ first, kernels: kernelsFor(Math.min(blockRows, rows - first)) }));
}
