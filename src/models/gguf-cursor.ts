import { readSync } from 'node:fs';
import { CartridgesError } from '../core/errors.js';

/** Most bytes of metadata and tensor list together; a vocabulary of 260,000 tokens with all its merges takes about 15 MB. */
const MAX_HEADER_BYTES = 128 << 20;

/** Longest single string; some files carry a whole `tokenizer.json` of 20 MB in one. */
const MAX_STRING_BYTES = 64 << 20;

const CHUNK_BYTES = 1 << 20;

/** Reads little-endian fields of a GGUF header one after the other. No field is read before it is known to lie in the file. */
export class GgufCursor {
  readonly path: string;
  readonly fileSize: number;
  readonly #file: number;
  #buffer: Buffer = Buffer.alloc(0);
  /** File position of the buffer's first byte. */
  #start = 0;
  /** Place of the next field in the buffer. */
  #next = 0;

  /** `file` is an open descriptor of the file at `path`; it stays the caller's. */
  constructor(file: number, path: string, fileSize: number) {
    this.#file = file;
    this.path = path;
    this.fileSize = fileSize;
  }

  /** Position in the file of the next field. */
  get position(): number {
    return this.#start + this.#next;
  }

  get remainingBytes(): number {
    return this.fileSize - this.position;
  }

  u32(): number {
    const at = this.#take(4);
    return this.#buffer.readUInt32LE(at);
  }

  /** An unsigned 64-bit integer that must be exact as a number: counts, lengths, extents and offsets. */
  u64(what: string): number {
    const at = this.#take(8);
    const high = this.#buffer.readUInt32LE(at + 4);
    if (high >= 1 << 21) throw this.invalid(`${what} is out of all proportion`);
    return high * 2 ** 32 + this.#buffer.readUInt32LE(at);
  }

  string(what: string, maxBytes = MAX_STRING_BYTES): string {
    const length = this.u64(what);
    if (length > maxBytes) throw this.invalid(`${what} is ${length} bytes long, more than ${maxBytes}`);
    const at = this.#take(length);
    return this.#buffer.toString('utf8', at, at + length);
  }

  /** The next bytes, as a view that is valid until the next read. */
  bytes(length: number): Buffer {
    const at = this.#take(length);
    return this.#buffer.subarray(at, at + length);
  }

  /** The error for whatever is wrong with the file. */
  invalid(reason: string): CartridgesError {
    return new CartridgesError('INVALID_MODEL', `${this.path} is not a usable GGUF model: ${reason}`, {
      hint: 'the file is damaged, incomplete or something else: download it again',
    });
  }

  /** Makes `length` bytes available in one piece and returns where they begin in the buffer. */
  #take(length: number): number {
    if (this.#next + length > this.#buffer.length) this.#refill(length);
    const at = this.#next;
    this.#next += length;
    return at;
  }

  #refill(length: number): void {
    const { position } = this;
    if (length > this.remainingBytes) throw this.invalid(`it ends inside its header, after ${this.fileSize} bytes`);
    if (position + length > MAX_HEADER_BYTES) throw this.invalid(`its header is longer than ${MAX_HEADER_BYTES} bytes`);
    const fresh = Buffer.allocUnsafe(Math.min(Math.max(length, CHUNK_BYTES), this.remainingBytes));
    for (let filled = 0; filled < fresh.length; ) {
      const read = readSync(this.#file, fresh, filled, fresh.length - filled, position + filled);
      if (read === 0) throw this.invalid('it became shorter while it was read');
      filled += read;
    }
    this.#buffer = fresh;
    this.#start = position;
    this.#next = 0;
  }
}
