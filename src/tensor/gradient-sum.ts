import type { GgmlThread } from './ggml-thread.js';
import { addressedFloats } from './native-memory.js';
import { PointedGraph } from './pointed-graph.js';

/** Slots of the graphs. */
const [SUM, ADDEND] = [0, 1] as const;
const SQUARES = 1;

/** Adds up gradients of `count` values by ggml, on memory anywhere in the process and in the calling thread. */
export class GradientSum {
  readonly #add: PointedGraph;
  readonly #square: PointedGraph;
  readonly #squares = addressedFloats(1);

  constructor(thread: GgmlThread, count: number) {
    this.#add = new PointedGraph(thread, (g) => {
      g.result(SUM, g.ggml.ggml_add(g.context, g.input(SUM, [count]), g.input(ADDEND, [count])));
    });
    this.#square = new PointedGraph(thread, (g) => {
      const sum = g.input(SUM, [count]);
      g.result(SQUARES, g.ggml.ggml_mul_mat(g.context, sum, sum));
    });
  }

  /** Adds the gradients at the other addresses to the one at the first; gives the sum of the squares of the result. */
  run([sum, ...others]: readonly bigint[]): number {
    for (const other of others) this.#add.run(sum!, other);
    this.#square.run(sum!, this.#squares.address);
    return this.#squares.values[0]!;
  }

  dispose(): void {
    this.#add.dispose();
    this.#square.dispose();
  }
}
