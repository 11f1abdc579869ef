import { readSync } from 'node:fs';
import { CartridgesError } from '../core/errors.js';
import type { Ggml } from '../native/ggml.js';
import { dequantize } from '../native/tensor-types.js';
import type { GgufTensor } from './gguf.js';

/** A matrix in a GGUF: plain data, which another thread can be given. */
export interface StoredMatrix {
  path: string;
  tensor: GgufTensor;
}

/**
 * Rows of a matrix as f32, [rows.length, columns], from the open file `descriptor`. Each is read where it lies: the token
 * embedding of the student needs a few hundred rows a step and no copy in memory.
 */
export function readMatrixRows(
  engine: { ggml: Ggml },
  descriptor: number,
  { path, tensor }: StoredMatrix,
  rows: Int32Array,
): Float32Array {
  const [columns = 1, count = 1] = tensor.shape;
  const rowBytes = tensor.byteLength / count;
  const bytes = new Uint8Array(rowBytes * rows.length);
  rows.forEach((row, index) => {
    if (row < 0 || row >= count) throw new CartridgesError('INTERNAL', `row ${row} of ${tensor.name}, which has ${count}`);
    const read = readSync(descriptor, bytes, index * rowBytes, rowBytes, tensor.offset + row * rowBytes);
    if (read !== rowBytes) throw truncatedTensor(path, tensor.name);
  });
  return dequantize(engine, tensor.type, bytes, columns * rows.length);
}

/** The error of a file that ends too early. */
export function truncatedTensor(path: string, name: string): CartridgesError {
  return new CartridgesError('INVALID_MODEL', `${path} ends inside the tensor ${name}`, {
    hint: 'the file changed or is incomplete',
  });
}
