import type { GgmlThread } from '../../tensor/ggml-thread.js';
import { PointedGraph, type PointedGraphBuilder } from '../../tensor/pointed-graph.js';
import { dense, type Kernel, type Products } from '../../tensor/products/products.js';
import type { ReplicaMemory } from './replica-memory.js';
import type { ReplicaModel } from './replica-model.js';
import type { ReplicaShape } from './replica-shape.js';

/** Brings f32 values into the type of operands, at `copy` when that is another; returns where the operand lies. */
export type Cast = (values: bigint, copy: bigint) => bigint;

/** What the parts of a replica are made from, and the owner of their graphs. */
export class ReplicaContext {
  readonly products: Products;
  readonly model: ReplicaModel;
  readonly shape: ReplicaShape;
  readonly memory: ReplicaMemory;
  readonly #thread: GgmlThread;
  readonly #graphs: PointedGraph[] = [];

  constructor(thread: GgmlThread, products: Products, model: ReplicaModel, shape: ReplicaShape, memory: ReplicaMemory) {
    this.#thread = thread;
    this.products = products;
    this.model = model;
    this.shape = shape;
    this.memory = memory;
  }

  /** A kernel of ggml's own operations; its addresses are those of the slots that `build` uses. */
  graph(build: (builder: PointedGraphBuilder) => void): Kernel {
    const graph = new PointedGraph(this.#thread, build);
    this.#graphs.push(graph);
    return (...addresses) => graph.run(...addresses);
  }

  cast(count: number): Cast {
    const { operandType } = this.products;
    if (operandType === 'f32') return (values) => values;
    const convert = this.products.copy(dense([count]), dense([count], operandType));
    return (values, copy) => {
      convert(values, copy);
      return copy;
    };
  }

  dispose(): void {
    for (const graph of this.#graphs) graph.dispose();
    this.products.dispose();
  }
}
