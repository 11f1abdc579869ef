import { CartridgesError } from '../core/errors.js';
import type { GgmlAllocator, GgmlBackend, GgmlGraph, GgmlScheduler, GgmlTensor } from '../native/handles.js';
import { callAsync } from '../native/koffi.js';
import { type Backend, MAX_GRAPH_NODES } from './backend.js';
import type { Graph } from './graph.js';

/**
 * A graph with memory for its intermediate results, computed as often as wanted. `outputs` keep their memory; everything else
 * is reused inside. Takes over the graph and frees it.
 */
export class CompiledGraph {
  readonly nodeCount: number;
  readonly #backend: Backend;
  readonly #lane: GgmlBackend;
  readonly #graph: Graph;
  readonly #handle: GgmlGraph;
  readonly #allocator: GgmlAllocator | undefined;
  readonly #scheduler: GgmlScheduler | undefined;
  #running: Promise<void> | undefined;

  /** Computes on `lane`, by default on the backend itself. Throws `OUT_OF_MEMORY` when the intermediate results do not fit. */
  constructor(graph: Graph, outputs: readonly GgmlTensor[], lane: GgmlBackend = graph.backend.handle) {
    this.#backend = graph.backend;
    this.#lane = lane;
    this.#graph = graph;
    const { ggml } = graph.backend.engine;
    this.#handle = ggml.ggml_new_graph_custom(graph.context, MAX_GRAPH_NODES, false);
    for (const output of outputs) ggml.ggml_set_output(output);
    for (const tensor of [...graph.computedFirst, ...outputs]) ggml.ggml_build_forward_expand(this.#handle, tensor);
    this.nodeCount = ggml.ggml_graph_n_nodes(this.#handle);
    this.#scheduler = graph.backend.createScheduler();
    this.#allocator = this.#scheduler ? undefined : ggml.ggml_gallocr_new(graph.backend.bufferType);
    const allocated = this.#scheduler
      ? ggml.ggml_backend_sched_alloc_graph(this.#scheduler, this.#handle)
      : ggml.ggml_gallocr_alloc_graph(this.#allocator!, this.#handle);
    if (allocated) return;
    this.dispose();
    throw graph.backend.outOfMemory('the intermediate results of a step');
  }

  /** Bytes of intermediate results. */
  get byteLength(): number {
    if (this.#scheduler) return this.#backend.schedulerBytes(this.#scheduler);
    return Number(this.#backend.engine.ggml.ggml_gallocr_get_buffer_size(this.#allocator!, 0));
  }

  /** Computes on a worker thread; the event loop stays free. One computation at a time. */
  async compute(): Promise<void> {
    if (this.#running) throw new CartridgesError('INTERNAL', 'a graph was computed twice at once');
    this.#running = this.#computeOnce();
    try {
      await this.#running;
    } finally {
      this.#running = undefined;
    }
  }

  /** Fills `target` with a tensor's values from the value number `first` on. */
  read(tensor: GgmlTensor, target: Float32Array, first = 0): Float32Array {
    this.#backend.engine.ggml.ggml_backend_tensor_get(tensor, target, first * target.BYTES_PER_ELEMENT, target.byteLength);
    return target;
  }

  dispose(): void {
    const { ggml } = this.#backend.engine;
    if (this.#running) throw new CartridgesError('INTERNAL', 'a graph was freed while it was computed');
    if (this.#allocator) ggml.ggml_gallocr_free(this.#allocator);
    if (this.#scheduler) ggml.ggml_backend_sched_free(this.#scheduler);
    this.#graph.dispose();
  }

  async #computeOnce(): Promise<void> {
    const { ggml, log } = this.#backend.engine;
    const status = this.#scheduler
      ? await callAsync(ggml.ggml_backend_sched_graph_compute, this.#scheduler, this.#handle)
      : await callAsync(ggml.ggml_backend_graph_compute, this.#lane, this.#handle);
    if (status === 0) return;
    throw new CartridgesError(
      'ENGINE_FAILURE',
      `a graph failed on ${this.#backend.device.name} with status ${status}: ${log.take()}`,
    );
  }
}
