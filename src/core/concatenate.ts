interface NumberArray extends ArrayLike<number> {
  set(values: ArrayLike<number>, offset: number): void;
}

/** Arrays of one kind, one after the other in a new one. */
export function concatenate<T extends NumberArray>(kind: new (length: number) => T, arrays: readonly T[]): T {
  const joined = new kind(arrays.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const array of arrays) {
    joined.set(array, offset);
    offset += array.length;
  }
  return joined;
}
