import { constants } from 'node:buffer';
import { CartridgesError } from '../core/errors.js';
import type { Cartridge } from './cartridge.js';
import { checkCartridge, MAX_LAYER_VALUES, MAX_TOKEN_COUNT, rowValues } from './cartridge-checks.js';
import { decodeFloats, encodeHalves, FLOAT_BYTES, type FloatType } from './float-conversion.js';

/**
 * The state of one sequence as libllama 0.5.0 reads and writes it, little endian: a head, a label for each cell, then the
 * keys of all layers and the values of all layers. libllama trusts what a blob says, up to allocating what a cell count asks
 * for, so blobs for it are only built here, from a checked cartridge; a blob from elsewhere is parsed and built anew.
 */

const MAGIC = 0xaf143cd8;
const HEAD_BYTES = 16;
const CELL_BYTES = 12;
const LAYER_HEAD_BYTES = 12;
/** libllama's own limit for the sequences of a context. */
const MAX_STREAMS = 256;

/** ggml's numbers of the types that a cache holds as they are; a quantised cache holds its rows in another basis. */
const GGML_TYPES: Readonly<Record<FloatType, number>> = { f32: 0, f16: 1, bf16: 30 };

/** How a context stores its cache. */
export interface StateBlobSettings {
  keyType: FloatType;
  valueType: FloatType;
  /** Values lie as [Hkv·D, p] in place of [p, Hkv·D]: the case without flash attention. */
  valuesTransposed: boolean;
  /** 1 for a unified cache, else the context's number of sequences. */
  streams: number;
}

/** A parsed blob. Keys and values are as in a cartridge: per layer [p, Hkv·D] in f32. */
export interface StateBlob extends StateBlobSettings {
  tokenCount: number;
  /** Position label of each cell. */
  positions: Int32Array;
  keys: Float32Array[];
  values: Float32Array[];
}

/**
 * The blob that puts a cartridge into a sequence of a unified cache, its rows labelled from `firstPosition` on: only the label
 * decides what may attend to a row and where the next token stands, whatever position its key is rotated for.
 * Throws `INVALID_CARTRIDGE` when the cartridge is inconsistent, or its numbers do not fit the cache's types.
 *
 * @example
 * const blob = buildStateBlob(cartridge, { keyType: 'f16', valueType: 'f16', valuesTransposed: false, streams: 1 });
 * // Clear the sequence first; llama_state_seq_set_data must return blob.length.
 */
export function buildStateBlob(cartridge: Cartridge, settings: StateBlobSettings & { streams: 1 }, firstPosition = 0): Buffer {
  const { keyType, valueType, valuesTransposed, streams } = settings;
  checkCartridge(cartridge, { keys: keyType, values: valueType }, 'the cartridge');
  const { model, tokenCount, keys, values } = cartridge;
  const writer = new BlobWriter(blobBytes(cartridge, settings));
  writer.u32(MAGIC, 0, streams, tokenCount);
  for (let row = 0; row < tokenCount; row++) writer.u32(firstPosition + row, 1, 0);
  writer.u32(valuesTransposed ? 1 : 0, model.layers);
  const columns = rowValues(model);
  for (const layer of keys) {
    writer.u32(...layerHead(keyType, columns, false));
    writer.floats(layer, keyType);
  }
  const turned = new Float32Array(valuesTransposed ? tokenCount * columns : 0);
  for (const layer of values) {
    writer.u32(...layerHead(valueType, columns, valuesTransposed));
    if (valuesTransposed) transpose(layer, turned, tokenCount, columns);
    writer.floats(valuesTransposed ? turned : layer, valueType);
  }
  return writer.bytes;
}

/**
 * Reads a blob: the settings of the context that it comes from, and the rows. Counts are checked before anything is
 * allocated by them. Throws `INVALID_INPUT` with what is wrong.
 */
export function parseStateBlob(bytes: Uint8Array, expected: { layers: number; rowValues: number }): StateBlob {
  const reader = new BlobReader(bytes);
  if (reader.u32() !== MAGIC) throw invalid('it does not begin with its magic number');
  // The sequence that the blob comes from is of no interest.
  reader.u32();
  const streams = reader.count('streams', 1, MAX_STREAMS);
  const { tokenCount, streamsBehind } = findCells(reader, streams);
  const positions = readPositions(reader, tokenCount);
  const valuesTransposed = reader.count('transposition', 0, 1) === 1;
  reader.count('layers', expected.layers, expected.layers);
  const size = { layers: expected.layers, rows: tokenCount, columns: expected.rowValues };
  const { type: keyType, arrays: keys } = readLayers(reader, size, false);
  const { type: valueType, arrays: values } = readLayers(reader, size, valuesTransposed);
  for (let stream = 0; stream < streamsBehind; stream++) reader.count('cells of another stream', 0, 0);
  if (reader.remainingBytes > 0) throw invalid(`${reader.remainingBytes} bytes follow its end`);
  return { streams, tokenCount, positions, keyType, valueType, valuesTransposed, keys, values };
}

function blobBytes({ model, tokenCount }: Cartridge, { keyType, valueType }: StateBlobSettings): number {
  const perLayer = 2 * LAYER_HEAD_BYTES + tokenCount * rowValues(model) * (FLOAT_BYTES[keyType] + FLOAT_BYTES[valueType]);
  const total = HEAD_BYTES + tokenCount * CELL_BYTES + 8 + model.layers * perLayer;
  if (total <= constants.MAX_LENGTH) return total;
  throw new CartridgesError('OUT_OF_MEMORY', `the cartridge takes ${total} bytes in one piece, more than Node can hold`, {
    hint: 'use a cache of type f16, or a smaller cartridge',
  });
}

/** Three 32-bit words before the data of a layer: the type, then the bytes of a row, or the bytes of a value and the columns. */
function layerHead(type: FloatType, columns: number, isTransposed: boolean): [number, number, number] {
  return isTransposed ? [GGML_TYPES[type], FLOAT_BYTES[type], columns] : [GGML_TYPES[type], columns * FLOAT_BYTES[type], 0];
}

/** Streams without cells are one zero each; exactly one stream has some. */
function findCells(reader: BlobReader, streams: number): { tokenCount: number; streamsBehind: number } {
  for (let stream = 0; stream < streams; stream++) {
    const tokenCount = reader.count('cells', 0, MAX_TOKEN_COUNT);
    if (tokenCount > 0) return { tokenCount, streamsBehind: streams - stream - 1 };
  }
  throw invalid('it holds no cells');
}

function readPositions(reader: BlobReader, tokenCount: number): Int32Array {
  reader.expectBytes(tokenCount * CELL_BYTES);
  return Int32Array.from({ length: tokenCount }, () => {
    const position = reader.u32() | 0;
    reader.count('sequences of a cell', 1, 1);
    reader.u32();
    return position;
  });
}

function readLayers(
  reader: BlobReader,
  { layers, rows, columns }: { layers: number; rows: number; columns: number },
  isTransposed: boolean,
): { type: FloatType; arrays: Float32Array[] } {
  if (rows * columns > MAX_LAYER_VALUES) throw invalid(`a layer holds ${rows * columns} values, more than ${MAX_LAYER_VALUES}`);
  let type: FloatType = 'f32';
  const arrays = Array.from({ length: layers }, () => {
    type = readType(reader);
    const [, first, second] = layerHead(type, columns, isTransposed);
    if (reader.u32() !== first || reader.u32() !== second) throw invalid(`its rows are not ${columns} values of ${type}`);
    const stored = decodeFloats(reader.take(rows * columns * FLOAT_BYTES[type]), type);
    if (!isTransposed) return stored;
    const turned = new Float32Array(stored.length);
    transpose(stored, turned, columns, rows);
    return turned;
  });
  return { type, arrays };
}

function readType(reader: BlobReader): FloatType {
  const number = reader.u32();
  for (const type of ['f32', 'f16', 'bf16'] as const) if (GGML_TYPES[type] === number) return type;
  throw new CartridgesError('INVALID_INPUT', `the cache is of ggml type ${number}, which holds its rows in another basis`, {
    hint: 'use a cache of type f32, f16 or bf16',
  });
}

/** [rows, columns] → [columns, rows]. */
function transpose(source: Float32Array, target: Float32Array, rows: number, columns: number): void {
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) target[column * rows + row] = source[row * columns + column]!;
  }
}

class BlobWriter {
  readonly bytes: Buffer;
  #next = 0;

  constructor(byteLength: number) {
    this.bytes = Buffer.alloc(byteLength);
  }

  u32(...words: number[]): void {
    for (const word of words) this.#next = this.bytes.writeUInt32LE(word, this.#next);
  }

  floats(values: Float32Array, type: FloatType): void {
    const start = this.bytes.byteOffset + this.#next;
    if (type === 'f32') {
      this.bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), this.#next);
    } else {
      // Whatever stands before is a whole number of 16-bit words, so this is aligned.
      encodeHalves(values, new Uint16Array(this.bytes.buffer, start, values.length), type);
    }
    this.#next += values.length * FLOAT_BYTES[type];
  }
}

class BlobReader {
  readonly #bytes: Buffer;
  #next = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get remainingBytes(): number {
    return this.#bytes.length - this.#next;
  }

  u32(): number {
    this.expectBytes(4);
    const word = this.#bytes.readUInt32LE(this.#next);
    this.#next += 4;
    return word;
  }

  /** A word that must lie between two limits, both inclusive. */
  count(what: string, least: number, most: number): number {
    const count = this.u32();
    if (count >= least && count <= most) return count;
    throw invalid(`its ${what}: ${count} is not from ${least} to ${most}`);
  }

  /** The next bytes, as a view. */
  take(length: number): Uint8Array {
    this.expectBytes(length);
    this.#next += length;
    return this.#bytes.subarray(this.#next - length, this.#next);
  }

  expectBytes(length: number): void {
    if (length > this.remainingBytes) throw invalid(`it ends after ${this.#bytes.length} bytes, too early`);
  }
}

function invalid(reason: string): CartridgesError {
  return new CartridgesError('INVALID_INPUT', `this is no usable llama.cpp sequence state: ${reason}`, {
    hint: 'it is damaged, or of another model or version of llama.cpp',
  });
}
