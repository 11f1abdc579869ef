import { CartridgesError } from '../core/errors.js';
import { inSlices } from '../core/slices.js';
import { GgmlType } from '../native/ggml.js';
import type { GgmlBuffer, GgmlBufferType, GgmlContext, GgmlTensor } from '../native/handles.js';
import { callAsync, viewMemory } from '../native/koffi.js';
import { dataAddress, setStrides } from '../native/tensor-fields.js';
import type { Backend } from './backend.js';
import { spacedRowBytes } from './row-spacing.js';
import { elementCount, type Shape, shapeOf } from './shape.js';

/** A tensor that outlives a computation: a weight, an input, a parameter. */
export interface StoredTensor {
  readonly handle: GgmlTensor;
  readonly shape: Shape;
  /** `enum ggml_type` */
  readonly type: number;
  /** Distance of its rows in memory, where they may have gaps. */
  readonly rowBytes?: number;
}

/**
 * Tensors that live as long as the store. They are declared first, then {@link TensorStore.allocate} gives all of them memory
 * in one buffer of the device, then they are written and read. Inputs of a graph belong here and not in the graph, whose
 * allocator would hand their memory to intermediate results.
 */
export class TensorStore {
  readonly #backend: Backend;
  readonly #context: GgmlContext;
  #buffer: GgmlBuffer | undefined;

  constructor(backend: Backend, capacity: number) {
    this.#backend = backend;
    const { ggml } = backend.engine;
    const bytes = (Number(ggml.ggml_tensor_overhead()) + 16) * (capacity + 1);
    this.#context = ggml.ggml_init({ mem_size: bytes, mem_buffer: null, no_alloc: true });
  }

  /** Declares a tensor; `dimensions` are innermost first, as ggml counts them. */
  declare(type: number, ...dimensions: number[]): StoredTensor {
    const shape = shapeOf(dimensions);
    return { handle: this.#backend.engine.ggml.ggml_new_tensor_4d(this.#context, type, ...shape), shape, type };
  }

  /** Declares an F32 matrix with rows as far apart as {@link spacedRowBytes} says. It is written by its {@link hostMemory}. */
  declareSpaced(columns: number, rows: number): StoredTensor {
    const tensor = this.declare(GgmlType.F32, columns, rows);
    const valueBytes = Float32Array.BYTES_PER_ELEMENT;
    const rowBytes = spacedRowBytes(columns * valueBytes);
    setStrides(tensor.handle, [valueBytes, rowBytes, rowBytes * rows, rowBytes * rows]);
    return { ...tensor, rowBytes };
  }

  /** Gives every declared tensor memory. Throws `OUT_OF_MEMORY` naming `what`. */
  allocate(what: string, bufferType: GgmlBufferType = this.#backend.bufferType): void {
    const { ggml } = this.#backend.engine;
    const buffer = ggml.ggml_backend_alloc_ctx_tensors_from_buft(this.#context, bufferType);
    if (!buffer) throw this.#backend.outOfMemory(what);
    this.#buffer = buffer;
  }

  /** Bytes of the buffer. */
  get byteLength(): number {
    return this.#buffer ? Number(this.#backend.engine.ggml.ggml_backend_buffer_get_size(this.#buffer)) : 0;
  }

  /** Writes from the byte number `firstByte` of the tensor on. */
  write(tensor: StoredTensor, data: ArrayBufferView, firstByte = 0): void {
    this.#requireMemory();
    this.#backend.engine.ggml.ggml_backend_tensor_set(tensor.handle, data, firstByte, data.byteLength);
  }

  /** A tensor's memory where the processor may write to it itself; undefined on a device, and in formats of its own. */
  hostMemory(tensor: StoredTensor): Uint8Array | undefined {
    const { ggml } = this.#backend.engine;
    if (!this.#buffer || !ggml.ggml_backend_buffer_is_host(this.#buffer)) return undefined;
    const [rowLength, ...rest] = tensor.shape;
    const rows = rest.reduce((product, extent) => product * extent);
    const rowSize = Number(ggml.ggml_row_size(tensor.type, rowLength));
    const { rowBytes = rowSize } = tensor;
    return new Uint8Array(viewMemory(dataAddress(tensor.handle), rowBytes * (rows - 1) + rowSize));
  }

  /** Fills `target` from the byte number `firstByte` of the tensor on. */
  read(tensor: StoredTensor, target: ArrayBufferView, firstByte = 0): void {
    this.#requireMemory();
    this.#backend.engine.ggml.ggml_backend_tensor_get(tensor.handle, target, firstByte, target.byteLength);
  }

  /** Writes F32 tensors, all of each, in slices between which the event loop has its turn. */
  async writeInSlices(tensors: readonly StoredTensor[], values: readonly Float32Array[]): Promise<void> {
    await inSlices(values, (index, first, end) => {
      const slice = values[index]!.subarray(first, end);
      this.write(tensors[index]!, slice, first * slice.BYTES_PER_ELEMENT);
    });
  }

  /** Copies of F32 tensors, read in such slices. */
  async readInSlices(tensors: readonly StoredTensor[]): Promise<Float32Array[]> {
    const copies: Float32Array[] = [];
    const lengths = tensors.map(({ shape }) => ({ length: elementCount(shape) }));
    await inSlices(lengths, (index, first, end) => {
      copies[index] ??= new Float32Array(lengths[index]!.length);
      const slice = copies[index].subarray(first, end);
      this.read(tensors[index]!, slice, first * slice.BYTES_PER_ELEMENT);
    });
    return copies;
  }

  /** Makes every value 0. */
  clear(): void {
    if (this.#buffer) this.#backend.engine.ggml.ggml_backend_buffer_clear(this.#buffer, 0);
  }

  /** The same on a worker thread. */
  async clearAsync(): Promise<void> {
    if (this.#buffer) await callAsync(this.#backend.engine.ggml.ggml_backend_buffer_clear, this.#buffer, 0);
  }

  /** Tells the scheduler that the tensors are weights: operations run where they lie. */
  markAsWeights(): void {
    const WEIGHTS = 1;
    if (this.#buffer) this.#backend.engine.ggml.ggml_backend_buffer_set_usage(this.#buffer, WEIGHTS);
  }

  dispose(): void {
    const { ggml } = this.#backend.engine;
    if (this.#buffer) ggml.ggml_backend_buffer_free(this.#buffer);
    this.#buffer = undefined;
    ggml.ggml_free(this.#context);
  }

  /** ggml would end the process. */
  #requireMemory(): void {
    if (!this.#buffer) throw new CartridgesError('INTERNAL', 'a tensor was used that has no memory, or none any more');
  }
}
