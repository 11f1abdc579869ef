import type { FrozenModel } from '../models/frozen-model.js';
import { GgmlType } from '../native/ggml.js';
import { type StoredTensor, TensorStore } from '../tensor/tensor-store.js';

/** Tensors on the device in the form of a cartridge: keys of all layers and values of all layers, F32 [p, Hkv, D] each. */
export class RowTensors {
  readonly tokenCount: number;
  readonly keys: readonly StoredTensor[];
  readonly values: readonly StoredTensor[];
  readonly #store: TensorStore;

  /** Zeros at first. Throws `OUT_OF_MEMORY` naming `what`. */
  constructor({ backend, config }: FrozenModel, tokenCount: number, what: string) {
    const { layers, kvHeads, headDimension } = config;
    this.tokenCount = tokenCount;
    this.#store = new TensorStore(backend, 2 * layers);
    const declare = () => this.#store.declare(GgmlType.F32, headDimension, kvHeads, tokenCount);
    this.keys = Array.from({ length: layers }, declare);
    this.values = Array.from({ length: layers }, declare);
    try {
      this.#store.allocate(what);
      this.#store.clear();
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Keys, then values. */
  get all(): StoredTensor[] {
    return [...this.keys, ...this.values];
  }

  /** Arrays in the order of {@link all} as those of keys and of values. */
  byKind<T>(arrays: T[]): { keys: T[]; values: T[] } {
    return { keys: arrays.slice(0, this.keys.length), values: arrays.slice(this.keys.length) };
  }

  get byteLength(): number {
    return this.#store.byteLength;
  }

  /** All of them at once: before training. */
  fill(arrays: readonly Float32Array[]): void {
    for (const [index, tensor] of this.all.entries()) this.#store.write(tensor, arrays[index]!);
  }

  /** Takes over arrays in the order of {@link all}, a slice at a time. */
  async write(arrays: readonly Float32Array[]): Promise<void> {
    await this.#store.writeInSlices(this.all, arrays);
  }

  /** Copies in that order, a slice at a time. */
  read(): Promise<Float32Array[]> {
    return this.#store.readInSlices(this.all);
  }

  /** Makes all values 0, off the event loop. */
  clear(): Promise<void> {
    return this.#store.clearAsync();
  }

  dispose(): void {
    this.#store.dispose();
  }
}
