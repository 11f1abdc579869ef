import { setImmediate } from 'node:timers/promises';
import type { Engine } from '../native/engine.js';
import { quantize } from '../native/tensor-types.js';
import { writeRows } from '../tensor/row-spacing.js';
import type { StoredTensor, TensorStore } from '../tensor/tensor-store.js';
import type { WeightReader } from './weight-reader.js';

/** A tensor of a GGUF on its way into a store. */
export interface Loading {
  name: string;
  tensor: StoredTensor;
  isTransposed: boolean;
  store: TensorStore;
}

/** Values that are converted at a time: beside a whole vocabulary in f32 a small model would not fit. */
const VALUES_AT_A_TIME = 1 << 18;
/** Blocks of a quantised type have so many values: the transposed copy takes whole blocks at a time. */
const ROW_MULTIPLE = 32;

/** Reads a tensor, brings it into its type and order, and writes it to its store. */
export async function loadTensor(engine: Engine, reader: WeightReader, { name, tensor, isTransposed, store }: Loading) {
  const [rowLength = 1, rows = 1] = reader.locate(name).tensor.shape;
  const memory = store.hostMemory(tensor);
  // Memory of a device, and formats of its own, are written whole.
  const wantedRows = memory ? Math.ceil(VALUES_AT_A_TIME / rowLength / ROW_MULTIPLE) * ROW_MULTIPLE : rows;
  for (let first = 0; first < rows; first += wantedRows) {
    const count = Math.min(wantedRows, rows - first);
    const part = { first, count, rowLength, rows };
    const bytes = await readPart(engine, reader, name, tensor.type, part, isTransposed);
    if (!memory) store.write(tensor, bytes);
    else if (isTransposed) writeColumns(memory, bytes, part);
    else writeRows(memory, bytes, count, tensor.rowBytes, first);
    // Converting takes a while: let the event loop breathe.
    await setImmediate();
  }
}

/** Rows of a matrix, of all that it has. */
interface Part {
  first: number;
  count: number;
  rowLength: number;
  rows: number;
}

async function readPart(
  engine: Engine,
  reader: WeightReader,
  name: string,
  type: number,
  { first, count, rowLength }: Part,
  isTransposed: boolean,
): Promise<Uint8Array> {
  if (!isTransposed && reader.locate(name).tensor.type === type) return reader.readBytes(name, first, count);
  const values = await reader.readFloats(name, first, count);
  if (!isTransposed) return quantize(engine, type, values, rowLength);
  return quantize(engine, type, transpose(values, count, rowLength), count);
}

/** Rows of the matrix are columns of the transposed one: `bytes` has a piece for each of its rows. */
function writeColumns(memory: Uint8Array, bytes: Uint8Array, { first, rowLength, rows }: Part): void {
  const [targetBytes, pieceBytes] = [memory.length / rowLength, bytes.length / rowLength];
  const start = (targetBytes / rows) * first;
  for (let row = 0; row < rowLength; row++) {
    memory.set(bytes.subarray(row * pieceBytes, (row + 1) * pieceBytes), row * targetBytes + start);
  }
}

/** [rows, columns] → [columns, rows], in tiles that stay in the cache. */
function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  const TILE = 32;
  const result = new Float32Array(values.length);
  for (let firstRow = 0; firstRow < rows; firstRow += TILE) {
    const rowEnd = Math.min(firstRow + TILE, rows);
    for (let firstColumn = 0; firstColumn < columns; firstColumn += TILE) {
      const columnEnd = Math.min(firstColumn + TILE, columns);
      for (let column = firstColumn; column < columnEnd; column++) {
        for (let row = firstRow; row < rowEnd; row++) result[column * rows + row] = values[row * columns + column]!;
      }
    }
  }
  return result;
}
