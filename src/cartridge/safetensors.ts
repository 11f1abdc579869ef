import { type FileHandle, open, stat } from 'node:fs/promises';
import { CartridgesError, rethrow } from '../core/errors.js';
import { replaceFile } from '../core/files.js';
import { isObject } from '../core/json.js';
import { decodeFloats, FLOAT_BYTES, type FloatType } from './float-conversion.js';

/**
 * The safetensors container: eight bytes with the length of a JSON header, the header, the raw data. Only float tensors are
 * read, and the data must be covered by them without gaps or overlaps, as the format demands; so even a header that names a
 * tensor twice cannot hide data.
 */

/** Most bytes of a header; a receipt with the hashes of 100,000 chunks takes about 7 MB. */
const MAX_HEADER_BYTES = 16 << 20;
const MAX_TENSORS = 1 << 16;
const MAX_DIMENSIONS = 8;
/** Most bytes of one read call: the system takes no more than 2 GiB at once. */
const MAX_READ_BYTES = 256 << 20;

const DTYPES: Readonly<Record<string, FloatType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };
const METADATA = '__metadata__';

export interface SafetensorsEntry {
  type: FloatType;
  shape: number[];
  /** Where the data begins in the file. */
  offset: number;
  byteLength: number;
}

export interface SafetensorsTensor {
  name: string;
  shape: readonly number[];
  bytes: Uint8Array;
}

/** An open safetensors file. The header is read and checked at once, tensors when they are asked for. */
export class SafetensorsFile {
  readonly path: string;
  readonly fileSize: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>;
  readonly #file: FileHandle;

  private constructor(path: string, fileSize: number, header: Header, file: FileHandle) {
    this.path = path;
    this.fileSize = fileSize;
    this.metadata = header.metadata;
    this.tensors = header.tensors;
    this.#file = file;
  }

  /** Throws `FILE_NOT_FOUND`, or `INVALID_CARTRIDGE` with what is wrong. */
  static async open(path: string): Promise<SafetensorsFile> {
    const fileSize = await regularFileSize(path);
    const file = await open(path, 'r').catch(rethrow);
    try {
      return new SafetensorsFile(path, fileSize, await readHeader(file, path, fileSize), file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Type, shape and place of a tensor. Throws `INVALID_CARTRIDGE` when there is none of that name. */
  entry(name: string): SafetensorsEntry {
    const entry = this.tensors.get(name);
    if (!entry) throw invalid(this.path, `the tensor ${name} is missing`);
    return entry;
  }

  /** The stored bytes of a tensor. */
  async readBytes(name: string): Promise<Uint8Array> {
    const { offset, byteLength } = this.entry(name);
    return readExactly(this.#file, this.path, offset, byteLength);
  }

  /** A tensor as f32, row-major. */
  async readFloats(name: string): Promise<Float32Array> {
    return decodeFloats(await this.readBytes(name), this.entry(name).type);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/**
 * Writes tensors of one type, in their order, atomically; `bytes` are as `encodeFloats` gives them. Throws `INVALID_CARTRIDGE`,
 * before anything is written, when the header would be larger than one that is read.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly SafetensorsTensor[],
  type: FloatType,
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const header = encodeHeader(path, tensors, type, metadata);
  await replaceFile(path, async (file) => {
    await file.writeFile(header);
    for (const { bytes } of tensors) await file.writeFile(bytes);
  });
}

function encodeHeader(
  path: string,
  tensors: readonly SafetensorsTensor[],
  type: FloatType,
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const entries: Record<string, unknown> = { [METADATA]: metadata };
  let offset = 0;
  for (const { name, shape, bytes } of tensors) {
    const end = offset + bytes.length;
    entries[name] = { dtype: type.toUpperCase(), shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = Buffer.from(JSON.stringify(entries));
  // Spaces behind the JSON align the data to eight bytes, as the format's own writer does.
  const header = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  if (header.length - 8 > MAX_HEADER_BYTES) throw headerTooLarge(path, header.length - 8);
  header.writeBigUInt64LE(BigInt(header.length - 8));
  json.copy(header, 8);
  return header;
}

function headerTooLarge(path: string, sizeBytes: number): CartridgesError {
  return new CartridgesError(
    'INVALID_CARTRIDGE',
    `the header of ${path} would take ${sizeBytes} bytes, more than the ${MAX_HEADER_BYTES} that are read`,
    { hint: 'shorten its metadata; of a cartridge that is the receipt, or compose fewer of them; nothing was written' },
  );
}

interface Header {
  metadata: Record<string, string>;
  tensors: Map<string, SafetensorsEntry>;
}

/** Opening a pipe would wait for a writer, so the kind of file is asked first. */
async function regularFileSize(path: string): Promise<number> {
  const status = await stat(path).catch(rethrow);
  if (status.isFile()) return status.size;
  throw new CartridgesError('INVALID_CARTRIDGE', `${path} is not a file`, { hint: 'name the .safetensors file itself' });
}

async function readHeader(file: FileHandle, path: string, fileSize: number): Promise<Header> {
  const length = Buffer.from(await readExactly(file, path, 0, 8)).readBigUInt64LE();
  if (length > MAX_HEADER_BYTES) throw invalid(path, `its header claims ${length} bytes, more than ${MAX_HEADER_BYTES}`);
  const dataStart = 8 + Number(length);
  if (dataStart > fileSize) throw invalid(path, `its header claims ${length} bytes, and the file has ${fileSize}`);
  const fields = parseObject(Buffer.from(await readExactly(file, path, 8, Number(length))).toString(), path);
  const { [METADATA]: metadata = {}, ...entries } = fields;
  if (!isTextRecord(metadata)) throw invalid(path, 'its metadata are not texts');
  return { metadata, tensors: checkEntries(Object.entries(entries), dataStart, fileSize, path) };
}

function parseObject(json: string, path: string): Record<string, unknown> {
  try {
    const value = JSON.parse(json);
    if (isObject(value)) return value;
  } catch (error) {
    throw invalid(path, 'its header is not JSON', error);
  }
  throw invalid(path, 'its header is not a JSON object');
}

function checkEntries(
  entries: [string, unknown][],
  dataStart: number,
  fileSize: number,
  path: string,
): Map<string, SafetensorsEntry> {
  if (entries.length > MAX_TENSORS) throw invalid(path, `it has ${entries.length} tensors, more than ${MAX_TENSORS}`);
  const tensors = entries
    .map(([name, value]) => ({ name, ...checkEntry(name, value, dataStart, path) }))
    .sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  let expected = dataStart;
  for (const { name, offset, byteLength } of tensors) {
    if (offset !== expected) throw invalid(path, `the tensor ${name} begins at byte ${offset}, expected ${expected}`);
    expected = offset + byteLength;
  }
  if (expected !== fileSize) throw invalid(path, `its tensors end at byte ${expected}, and the file at ${fileSize}`);
  return new Map(tensors.map(({ name, ...entry }) => [name, entry]));
}

function checkEntry(name: string, value: unknown, dataStart: number, path: string): SafetensorsEntry {
  const { dtype, shape, data_offsets: offsets } = isObject(value) ? value : {};
  const type = typeof dtype === 'string' && Object.hasOwn(DTYPES, dtype) ? DTYPES[dtype] : undefined;
  if (!type) throw invalid(path, `the tensor ${name} is of type ${nameOf(dtype)}; F32, F16 and BF16 can be read`);
  if (!isCounts(shape) || shape.length > MAX_DIMENSIONS) throw invalid(path, `the tensor ${name} has no valid shape`);
  if (!isCounts(offsets) || offsets.length !== 2) throw invalid(path, `the tensor ${name} has no valid offsets`);
  const [start, end] = offsets as [number, number];
  const byteLength = shape.reduce((product, extent) => product * extent, FLOAT_BYTES[type]);
  if (end - start !== byteLength) {
    throw invalid(path, `the tensor ${name} has ${end - start} bytes, and ${byteLength} by its shape`);
  }
  return { type, shape, offset: dataStart + start, byteLength };
}

/** A value of JSON can be an object whose `toString` is no function, or nested deeper than the stack is. */
function nameOf(dtype: unknown): string {
  return typeof dtype === 'string' ? dtype.slice(0, 80) : typeof dtype;
}

async function readExactly(file: FileHandle, path: string, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let filled = 0; filled < length; ) {
    const wanted = Math.min(length - filled, MAX_READ_BYTES);
    const { bytesRead } = await file.read(bytes, filled, wanted, offset + filled).catch(rethrow);
    if (bytesRead === 0) throw invalid(path, `it ends at byte ${offset + filled}, too early`);
    filled += bytesRead;
  }
  return bytes;
}

function invalid(path: string, reason: string, cause?: unknown): CartridgesError {
  return new CartridgesError('INVALID_CARTRIDGE', `${path} is not a usable safetensors file: ${reason}`, {
    hint: 'the file is damaged, incomplete or something else: get it again',
    cause,
  });
}

function isTextRecord(value: unknown): value is Record<string, string> {
  return isObject(value) && Object.values(value).every((item) => typeof item === 'string');
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}
