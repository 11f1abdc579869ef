import type { GgmlThread } from '../../tensor/ggml-thread.js';
import { PointedGraph, type PointedGraphBuilder } from '../../tensor/pointed-graph.js';
import { dense, type Kernel, type Products } from '../../tensor/products/products.js';
import type { ReplicaMemory } from './replica-memory.js';
import type { ReplicaModel } from './replica-model.js';
import type { ReplicaShape } from './replica-shape.js';
import { TimedProducts, type WorkClock, type WorkKind } from './work-clock.js';

/** Brings f32 values into the type of operands, at `copy` when that is another; returns where the operand lies. */
export type Cast = (values: bigint, copy: bigint) => bigint;

export interface ReplicaParts {
  thread: GgmlThread;
  products: Products;
  model: ReplicaModel;
  shape: ReplicaShape;
  memory: ReplicaMemory;
  /** Times every kernel, when there is one. */
  clock: WorkClock | undefined;
}

/** What the parts of a replica are made from, and the owner of their graphs. */
export class ReplicaContext {
  readonly products: Products;
  readonly model: ReplicaModel;
  readonly shape: ReplicaShape;
  readonly memory: ReplicaMemory;
  readonly #parts: ReplicaParts;
  readonly #kind: WorkKind;
  readonly #graphs: PointedGraph[];

  constructor(parts: ReplicaParts, kind: WorkKind = 'rest', graphs: PointedGraph[] = []) {
    const { clock, products } = parts;
    this.products = clock ? new TimedProducts(products, clock, kind) : products;
    this.model = parts.model;
    this.shape = parts.shape;
    this.memory = parts.memory;
    this.#parts = parts;
    this.#kind = kind;
    this.#graphs = graphs;
  }

  /** The same context for another kind of work. */
  of(kind: WorkKind): ReplicaContext {
    return new ReplicaContext(this.#parts, kind, this.#graphs);
  }

  /** A kernel of ggml's own operations; its addresses are those of the slots that `build` uses. */
  graph(build: (builder: PointedGraphBuilder) => void): Kernel {
    const graph = new PointedGraph(this.#parts.thread, build);
    this.#graphs.push(graph);
    return this.timed((...addresses: readonly bigint[]) => graph.run(...addresses));
  }

  /** Native code that is timed as the kernels of this context are. */
  timed<Arguments extends readonly unknown[], Result>(run: (...args: Arguments) => Result): (...args: Arguments) => Result {
    const { clock } = this.#parts;
    return clock ? clock.time(this.#kind, run) : run;
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
