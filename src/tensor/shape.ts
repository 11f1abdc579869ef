/** Four dimensions, innermost first, as ggml counts them. */
export type Shape = readonly [number, number, number, number];

/** Fills up to four dimensions with ones. */
export function shapeOf(dimensions: readonly number[]): Shape {
  const [a = 1, b = 1, c = 1, d = 1] = dimensions;
  return [a, b, c, d];
}

export function elementCount(shape: Shape): number {
  return shape[0] * shape[1] * shape[2] * shape[3];
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.every((extent, axis) => extent === b[axis]);
}

export function describeShape(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}
