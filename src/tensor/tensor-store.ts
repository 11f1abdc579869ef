import type { GgmlBuffer, GgmlBufferType, GgmlContext, GgmlTensor } from '../native/handles.js';
import { viewMemory } from '../native/koffi.js';
import { dataAddress } from '../native/tensor-fields.js';
import type { Backend } from './backend.js';
import { type Shape, shapeOf } from './shape.js';

/** A tensor that outlives a computation: a weight, an input, a parameter. */
export interface StoredTensor {
  readonly handle: GgmlTensor;
  readonly shape: Shape;
  /** `enum ggml_type` */
  readonly type: number;
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
    this.#backend.engine.ggml.ggml_backend_tensor_set(tensor.handle, data, firstByte, data.byteLength);
  }

  /** A tensor's memory where the processor may write to it itself; undefined on a device, and in formats of its own. */
  hostMemory(tensor: StoredTensor): Uint8Array | undefined {
    const { ggml } = this.#backend.engine;
    if (!this.#buffer || !ggml.ggml_backend_buffer_is_host(this.#buffer)) return undefined;
    const [rowLength, ...rest] = tensor.shape;
    const bytes = rest.reduce((product, extent) => product * extent, Number(ggml.ggml_row_size(tensor.type, rowLength)));
    return new Uint8Array(viewMemory(dataAddress(tensor.handle), bytes));
  }

  read(tensor: StoredTensor, target: ArrayBufferView): void {
    this.#backend.engine.ggml.ggml_backend_tensor_get(tensor.handle, target, 0, target.byteLength);
  }

  /** Tells the scheduler that the tensors are weights: operations run where they lie. */
  markAsWeights(): void {
    const WEIGHTS = 1;
    if (this.#buffer) this.#backend.engine.ggml.ggml_backend_buffer_set_usage(this.#buffer, WEIGHTS);
  }

  dispose(): void {
    const { ggml } = this.#backend.engine;
    if (this.#buffer) ggml.ggml_backend_buffer_free(this.#buffer);
    ggml.ggml_free(this.#context);
  }
}
