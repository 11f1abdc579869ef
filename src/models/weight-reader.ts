import { type FileHandle, open } from 'node:fs/promises';
import { CartridgesError } from '../core/errors.js';
import type { Engine } from '../native/engine.js';
import { dequantize } from '../native/tensor-types.js';
import type { GgufFile, GgufTensor } from './gguf.js';
import { readMatrixRows, type StoredMatrix, truncatedTensor } from './matrix-rows.js';

/** Reads tensors of an open GGUF, as they are stored or as f32. */
export class WeightReader {
  readonly #engine: Engine;
  readonly #gguf: GgufFile;
  readonly #file: FileHandle;

  private constructor(engine: Engine, gguf: GgufFile, file: FileHandle) {
    this.#engine = engine;
    this.#gguf = gguf;
    this.#file = file;
  }

  static async open(engine: Engine, gguf: GgufFile): Promise<WeightReader> {
    return new WeightReader(engine, gguf, await open(gguf.path, 'r'));
  }

  /** Stored bytes of `count` rows of a tensor. */
  async readBytes(name: string, firstRow: number, count: number): Promise<Uint8Array> {
    const tensor = this.#tensor(name);
    const rowBytes = tensor.byteLength / (tensor.shape[1] ?? 1);
    const bytes = new Uint8Array(rowBytes * count);
    const { bytesRead } = await this.#file.read(bytes, 0, bytes.length, tensor.offset + rowBytes * firstRow);
    if (bytesRead !== bytes.length) throw truncatedTensor(this.#gguf.path, name);
    return bytes;
  }

  /** `count` rows of a tensor as f32, [count, columns]. */
  async readFloats(name: string, firstRow: number, count: number): Promise<Float32Array> {
    const { type, shape } = this.#tensor(name);
    return dequantize(this.#engine, type, await this.readBytes(name, firstRow, count), count * (shape[0] ?? 1));
  }

  /** Rows of a matrix as f32, [rows.length, columns], read from the file where they lie. */
  readRows(name: string, rows: Int32Array): Float32Array {
    return readMatrixRows(this.#engine, this.#file.fd, this.locate(name), rows);
  }

  /** Where a tensor lies, for a thread that reads it on its own. */
  locate(name: string): StoredMatrix {
    return { path: this.#gguf.path, tensor: this.#tensor(name) };
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #tensor(name: string): GgufTensor {
    const tensor = this.#gguf.tensors.get(name);
    if (!tensor) throw new CartridgesError('INVALID_MODEL', `${this.#gguf.path}: the tensor ${name} is missing`);
    return tensor;
  }
}
