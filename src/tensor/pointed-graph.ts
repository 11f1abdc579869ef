import { CartridgesError } from '../core/errors.js';
import { type Ggml, GgmlType } from '../native/ggml.js';
import type { GgmlContext, GgmlGraph, GgmlTensor } from '../native/handles.js';
import { addressField, setBuffer, setStrides } from '../native/tensor-fields.js';
import type { GgmlThread } from './ggml-thread.js';
import { shapeOf } from './shape.js';

const MAX_TENSORS = 24;

/** How a tensor lies at its address. */
export interface Placement {
  /** `enum ggml_type`; F32 unless something else is said. */
  type?: number;
  /** Distances between neighbours, innermost first, in bytes; dense unless something else is said. */
  strides?: readonly number[];
  /** Distance from the address to the first value, in bytes. */
  offset?: number;
}

interface Pointed {
  address: BigInt64Array;
  slot: number;
  offset: bigint;
}

/** Adds tensors to a {@link PointedGraph}. A slot is the number of an address that {@link PointedGraph.run} is given. */
export class PointedGraphBuilder {
  readonly ggml: Ggml;
  readonly context: GgmlContext;
  readonly pointed: Pointed[] = [];
  readonly #thread: GgmlThread;
  readonly #graph: GgmlGraph;

  constructor(thread: GgmlThread, context: GgmlContext, graph: GgmlGraph) {
    this.ggml = thread.ggml;
    this.context = context;
    this.#thread = thread;
    this.#graph = graph;
  }

  /** A tensor that lies at a slot's address; dimensions are innermost first. Every view of memory is an input of its own. */
  input(slot: number, dimensions: readonly number[], placement: Placement = {}): GgmlTensor {
    const type = placement.type ?? GgmlType.F32;
    const tensor = this.ggml.ggml_new_tensor_4d(this.context, type, ...shapeOf(dimensions));
    return this.#place(slot, tensor, placement);
  }

  /** Makes the result of an operation lie at a slot's address. Every operation of the graph needs that. */
  result(slot: number, node: GgmlTensor, placement: Placement = {}): GgmlTensor {
    this.#place(slot, node, placement);
    this.ggml.ggml_build_forward_expand(this.#graph, node);
    return node;
  }

  #place(slot: number, tensor: GgmlTensor, { strides, offset = 0 }: Placement): GgmlTensor {
    if (strides) setStrides(tensor, strides);
    setBuffer(tensor, this.#thread.buffer);
    this.pointed.push({ address: addressField(tensor), slot, offset: BigInt(offset) });
    return tensor;
  }
}

/**
 * A small ggml graph, built once for its shapes and run on memory anywhere in the process: inputs and results lie where each run
 * says. So one graph serves all layers of a model, and a result lands where it is wanted, without a copy.
 *
 * A view of a view would keep the address that it was made for; the builder makes none.
 */
export class PointedGraph {
  readonly #thread: GgmlThread;
  readonly #context: GgmlContext;
  readonly #graph: GgmlGraph;
  readonly #pointed: readonly Pointed[];

  constructor(thread: GgmlThread, build: (builder: PointedGraphBuilder) => void) {
    const { ggml } = thread;
    const headers = Number(ggml.ggml_tensor_overhead()) * MAX_TENSORS;
    const graphBytes = Number(ggml.ggml_graph_overhead_custom(MAX_TENSORS, false));
    this.#thread = thread;
    this.#context = ggml.ggml_init({ mem_size: headers + graphBytes, mem_buffer: null, no_alloc: true });
    this.#graph = ggml.ggml_new_graph_custom(this.#context, MAX_TENSORS, false);
    const builder = new PointedGraphBuilder(thread, this.#context, this.#graph);
    build(builder);
    this.#pointed = builder.pointed;
  }

  /** Computes in the calling thread, with the addresses of all slots. */
  run(...addresses: readonly bigint[]): void {
    for (const { address, slot, offset } of this.#pointed) address[0] = addresses[slot]! + offset;
    const status = this.#thread.ggml.ggml_backend_graph_compute(this.#thread.backend, this.#graph);
    if (status !== 0) throw new CartridgesError('ENGINE_FAILURE', `a graph of a replica failed with status ${status}`);
  }

  dispose(): void {
    this.#thread.ggml.ggml_free(this.#context);
  }
}
