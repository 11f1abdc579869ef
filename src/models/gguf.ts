import { closeSync, openSync, statSync } from 'node:fs';
import { CartridgesError, toCartridgesError } from '../core/errors.js';
import { ggmlTypeLayout } from './ggml-types.js';
import { GgufCursor } from './gguf-cursor.js';
import { checkVocabulary } from './gguf-vocabulary.js';

/** Numbers of one array, in the width that the file has. */
export type GgufNumbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

/** A metadata value; 64-bit integers are numbers where a number holds them exactly. */
export type GgufValue = number | bigint | boolean | string | GgufNumbers | boolean[] | string[];

export interface GgufTensor {
  name: string;
  /** ggml's type number, and its name, for example `Q8_0`. */
  type: number;
  typeName: string;
  /** Extents in ggml's order, innermost first. */
  shape: number[];
  /** Where the data begins in the file. */
  offset: number;
  byteLength: number;
}

const MAX_METADATA_KEYS = 1 << 14;
const MAX_TENSORS = 1 << 16;
/** Elements of one metadata array; the merges of today's largest vocabularies are half a million. */
const MAX_ARRAY_LENGTH = 1 << 22;
const MAX_KEY_BYTES = 1 << 16;
/** ggml keeps a name in 64 bytes with its end mark. */
const MAX_TENSOR_NAME_BYTES = 63;
const MAX_DIMENSIONS = 4;
const MIN_ALIGNMENT = 8;
const MAX_ALIGNMENT = 1 << 20;
const DEFAULT_ALIGNMENT = 32;

const MAGIC = 0x46554747;
const U32 = 4;
const BOOL = 7;
const STRING = 8;
const ARRAY = 9;

/** The header of a GGUF file: metadata, and where each tensor lies. */
export class GgufFile {
  readonly path: string;
  readonly fileSize: number;
  readonly version: number;
  readonly alignment: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;

  constructor(fields: Pick<GgufFile, 'path' | 'fileSize' | 'version' | 'alignment' | 'metadata' | 'tensors'>) {
    this.path = fields.path;
    this.fileSize = fields.fileSize;
    this.version = fields.version;
    this.alignment = fields.alignment;
    this.metadata = fields.metadata;
    this.tensors = fields.tensors;
  }

  /** A text. This and the getters below throw `INVALID_MODEL` when the key is missing (without a fallback) or of another kind. */
  string(key: string, fallback?: string): string {
    const value = this.#value(key, fallback);
    return typeof value === 'string' ? value : this.#refuse(key, 'a text');
  }

  number(key: string, fallback?: number): number {
    const value = this.#value(key, fallback);
    return typeof value === 'number' ? value : this.#refuse(key, 'a number');
  }

  boolean(key: string, fallback?: boolean): boolean {
    const value = this.#value(key, fallback);
    return typeof value === 'boolean' ? value : this.#refuse(key, 'true or false');
  }

  numbers(key: string): number[] {
    const value = this.#value(key);
    return ArrayBuffer.isView(value) ? Array.from(value as ArrayLike<number | bigint>, Number) : this.#refuse(key, 'numbers');
  }

  strings(key: string): readonly string[] {
    const value = this.#value(key);
    return isStrings(value) ? value : this.#refuse(key, 'texts');
  }

  #value(key: string, fallback?: GgufValue): GgufValue {
    const value = this.metadata.get(key) ?? fallback;
    if (value !== undefined) return value;
    throw new CartridgesError('INVALID_MODEL', `${this.path}: the key ${key} is missing`, {
      hint: 'the file is incomplete, or was converted for another use: get it from another source',
    });
  }

  #refuse(key: string, kind: string): never {
    throw new CartridgesError('INVALID_MODEL', `${this.path}: the key ${key} does not hold ${kind}`, {
      hint: 'the file is damaged, or was converted wrongly: get it from another source',
    });
  }
}

/**
 * Reads the header of a GGUF file (versions 2 and 3, little endian) and checks all of it: counts, lengths, types, shapes and
 * offsets against limits and the file's size, and the vocabulary's arrays against each other. Tensor data is not read.
 *
 * ggml and libllama abort the whole process on some bad files, so this check must be ours, synchronous and before them, which
 * is why the asynchronous @huggingface/gguf is not used.
 *
 * Throws `FILE_NOT_FOUND`, `INVALID_MODEL` with what is wrong, or `UNSUPPORTED_MODEL` for a model split over several files.
 *
 * @example
 * readGguf('model.gguf').number('llama.block_count');
 */
export function readGguf(path: string): GgufFile {
  try {
    const gguf = readFile(path, regularFileSize(path));
    refuseSplit(gguf);
    return gguf;
  } catch (error) {
    throw toCartridgesError(error);
  }
}

function readFile(path: string, fileSize: number): GgufFile {
  const file = openSync(path, 'r');
  try {
    return readHeader(new GgufCursor(file, path, fileSize));
  } finally {
    closeSync(file);
  }
}

/** Opening a pipe would wait for a writer, so the kind of file is asked first. */
function regularFileSize(path: string): number {
  const status = statSync(path, { throwIfNoEntry: false });
  if (!status) {
    throw new CartridgesError('FILE_NOT_FOUND', `the model ${path} does not exist`, {
      hint: 'check the path, or get a model with: cartridges models pull REPO',
    });
  }
  if (status.isFile()) return status.size;
  throw new CartridgesError('INVALID_MODEL', `the model ${path} is not a file`, { hint: 'name the .gguf file itself' });
}

function readHeader(cursor: GgufCursor): GgufFile {
  const version = readVersion(cursor);
  const tensorCount = readCount(cursor, 'tensors', MAX_TENSORS);
  const keyCount = readCount(cursor, 'metadata keys', MAX_METADATA_KEYS);
  const metadata = readMetadata(cursor, keyCount);
  checkVocabulary(metadata, cursor);
  const alignment = readAlignment(cursor, metadata);
  const tensors = readTensors(cursor, tensorCount, alignment);
  return new GgufFile({ path: cursor.path, fileSize: cursor.fileSize, version, alignment, metadata, tensors });
}

function readVersion(cursor: GgufCursor): number {
  if (cursor.u32() !== MAGIC) throw cursor.invalid('it does not begin with the letters GGUF');
  const version = cursor.u32();
  if (version === 2 || version === 3) return version;
  if ((version & 0xffff) === 0) throw cursor.invalid('it is big endian');
  throw cursor.invalid(`it is of version ${version}; versions 2 and 3 can be read`);
}

function readCount(cursor: GgufCursor, what: string, limit: number): number {
  const count = cursor.u64(`the number of ${what}`);
  if (count > limit) throw cursor.invalid(`it declares ${count} ${what}, more than ${limit}`);
  return count;
}

function readMetadata(cursor: GgufCursor, count: number): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  for (let index = 0; index < count; index++) {
    const key = cursor.string(`the name of metadata key ${index + 1}`, MAX_KEY_BYTES);
    if (key === '') throw cursor.invalid(`metadata key ${index + 1} has no name`);
    if (metadata.has(key)) throw cursor.invalid(`the key ${key} is there twice`);
    const type = cursor.u32();
    if (key === 'general.alignment' && type !== U32) throw cursor.invalid('its alignment is not a 32-bit number');
    metadata.set(key, readValue(cursor, key, type));
  }
  return metadata;
}

function readValue(cursor: GgufCursor, key: string, type: number): GgufValue {
  if (type === ARRAY) return readArray(cursor, key);
  if (type === STRING) return cursor.string(`the value of ${key}`);
  if (type === BOOL) return cursor.bytes(1)[0] !== 0;
  const value = readNumbers(cursor, key, type, 1)[0]!;
  return typeof value === 'bigint' && Number.isSafeInteger(Number(value)) ? Number(value) : value;
}

function readArray(cursor: GgufCursor, key: string): GgufValue {
  const type = cursor.u32();
  const length = cursor.u64(`the length of ${key}`);
  if (length > MAX_ARRAY_LENGTH) throw cursor.invalid(`${key} has ${length} elements, more than ${MAX_ARRAY_LENGTH}`);
  if (type === STRING) return readStrings(cursor, key, length);
  if (type === BOOL) return Array.from(readNumbers(cursor, key, 0, length) as Uint8Array, (byte) => byte !== 0);
  return readNumbers(cursor, key, type, length);
}

function readStrings(cursor: GgufCursor, key: string, length: number): string[] {
  // Every string takes eight bytes at least: a length that cannot be true must not allocate.
  if (length * 8 > cursor.remainingBytes) throw cursor.invalid(`${key} has ${length} elements, more than the file can hold`);
  const what = `an element of ${key}`;
  const texts = new Array<string>(length);
  for (let index = 0; index < length; index++) texts[index] = cursor.string(what);
  return texts;
}

const NUMBER_TYPES: Readonly<Record<number, new (buffer: ArrayBuffer) => GgufNumbers>> = {
  0: Uint8Array,
  1: Int8Array,
  2: Uint16Array,
  3: Int16Array,
  4: Uint32Array,
  5: Int32Array,
  6: Float32Array,
  10: BigUint64Array,
  11: BigInt64Array,
  12: Float64Array,
};

const NUMBER_BYTES: Readonly<Record<number, number>> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 10: 8, 11: 8, 12: 8 };

function readNumbers(cursor: GgufCursor, key: string, type: number, length: number): GgufNumbers {
  const NumberArray = Object.hasOwn(NUMBER_TYPES, type) ? NUMBER_TYPES[type] : undefined;
  if (!NumberArray) throw cursor.invalid(`${key} has values of the unknown type ${type}`);
  // A copy, because the file aligns nothing and the cursor reuses its buffer.
  return new NumberArray(new Uint8Array(cursor.bytes(length * NUMBER_BYTES[type]!)).buffer);
}

function readAlignment(cursor: GgufCursor, metadata: Map<string, GgufValue>): number {
  const alignment = Number(metadata.get('general.alignment') ?? DEFAULT_ALIGNMENT);
  if (alignment >= MIN_ALIGNMENT && alignment <= MAX_ALIGNMENT && (alignment & (alignment - 1)) === 0) return alignment;
  throw cursor.invalid(`its alignment is ${alignment}, not a power of two from ${MIN_ALIGNMENT} to ${MAX_ALIGNMENT}`);
}

/** The tensors, which must follow each other without gaps: ggml asks for the same, and so none can overlap another. */
function readTensors(cursor: GgufCursor, count: number, alignment: number): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  let expected = 0;
  for (let index = 0; index < count; index++) {
    const tensor = readTensor(cursor, index);
    const { name, offset, byteLength } = tensor;
    if (tensors.has(name)) throw cursor.invalid(`the tensor ${name} is there twice`);
    if (offset !== expected) throw cursor.invalid(`the tensor ${name} begins at ${offset}, expected ${expected}`);
    expected = padded(offset + byteLength, alignment);
    tensors.set(name, tensor);
  }
  const dataStart = padded(cursor.position, alignment);
  for (const tensor of tensors.values()) {
    tensor.offset += dataStart;
    if (tensor.offset + tensor.byteLength <= cursor.fileSize) continue;
    throw cursor.invalid(`the tensor ${tensor.name} runs beyond the end of the file`);
  }
  return tensors;
}

/** One entry of the tensor list; its offset still counts from where the data begins. */
function readTensor(cursor: GgufCursor, index: number): GgufTensor {
  const name = cursor.string(`the name of tensor ${index + 1}`, MAX_TENSOR_NAME_BYTES);
  if (name === '') throw cursor.invalid(`tensor ${index + 1} has no name`);
  const shape = readShape(cursor, name);
  const type = cursor.u32();
  const layout = ggmlTypeLayout(type);
  if (!layout) throw cursor.invalid(`the tensor ${name} is of the unknown type ${type}`);
  if (shape[0]! % layout.blockLength !== 0) {
    throw cursor.invalid(`rows of ${shape[0]} values of the tensor ${name} are not whole blocks of ${layout.name}`);
  }
  const values = shape.reduce((product, extent) => product * extent, 1);
  const byteLength = (values / layout.blockLength) * layout.blockBytes;
  if (byteLength > cursor.fileSize) throw cursor.invalid(`the tensor ${name} is larger than the file`);
  return { name, type, typeName: layout.name, shape, offset: cursor.u64(`the offset of ${name}`), byteLength };
}

function readShape(cursor: GgufCursor, name: string): number[] {
  const dimensions = cursor.u32();
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) throw cursor.invalid(`the tensor ${name} has ${dimensions} dimensions`);
  const shape = Array.from({ length: dimensions }, () => cursor.u64(`an extent of ${name}`));
  if (shape.includes(0)) throw cursor.invalid(`the tensor ${name} is empty`);
  return shape;
}

/** libllama would open the other files of a split model by itself, unchecked. */
function refuseSplit(gguf: GgufFile): void {
  const parts = gguf.number('split.count', 0);
  if (parts <= 1) return;
  throw new CartridgesError('UNSUPPORTED_MODEL', `${gguf.path} is one of the ${parts} files of a split model`, {
    hint: 'join them with: llama-gguf-split --merge FIRST.gguf WHOLE.gguf',
  });
}

function padded(size: number, alignment: number): number {
  return Math.ceil(size / alignment) * alignment;
}

function isStrings(value: GgufValue): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
