/**
 * Order of the numbers inside a head's key. Hugging Face's weights have RoPE turn halves (i, i + D/2); llama GGUFs are permuted so
 * that it turns neighbours (2i, 2i + 1). The numbers are the same, so number j·D/2 + i of the one is number 2i + j of the other.
 */

/** Keys [rows, Hkv, D] in Hugging Face's order → as a GGUF with `neighbours` has them. */
export function halvesToNeighbours(keys: Float32Array, headDimension: number): Float32Array {
  return moved(keys, headDimension, (halves, neighbours, target) => {
    target[neighbours] = keys[halves]!;
  });
}

/** The way back. */
export function neighboursToHalves(keys: Float32Array, headDimension: number): Float32Array {
  return moved(keys, headDimension, (halves, neighbours, target) => {
    target[halves] = keys[neighbours]!;
  });
}

function moved(
  keys: Float32Array,
  headDimension: number,
  move: (halves: number, neighbours: number, target: Float32Array) => void,
): Float32Array {
  const target = new Float32Array(keys.length);
  const half = headDimension / 2;
  for (let head = 0; head < keys.length; head += headDimension) {
    for (let i = 0; i < half; i++) {
      move(head + i, head + 2 * i, target);
      move(head + half + i, head + 2 * i + 1, target);
    }
  }
  return target;
}
