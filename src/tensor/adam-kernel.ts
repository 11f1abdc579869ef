import { ADAM_SETTING_COUNT, type AdamUpdate, adamSettingValues } from './adam.js';
import type { GgmlThread } from './ggml-thread.js';
import { addressedFloats } from './native-memory.js';
import { PointedGraph } from './pointed-graph.js';

/** Where parameters, their gradient and their moments lie. */
export interface AdamAddresses {
  values: bigint;
  gradient: bigint;
  first: bigint;
  second: bigint;
}

/** Slots of the graph. */
const [VALUES, GRADIENT, FIRST, SECOND, SCALE, SETTINGS] = [0, 1, 2, 3, 4, 5] as const;

/**
 * Adam's update of `count` values by ggml, on memory anywhere in the process and in the calling thread. It overwrites the gradient.
 */
export class AdamKernel {
  readonly #graph: PointedGraph;
  readonly #scale = addressedFloats(1);
  readonly #settings = addressedFloats(ADAM_SETTING_COUNT);

  constructor(thread: GgmlThread, count: number) {
    this.#graph = new PointedGraph(thread, (g) => {
      const { ggml, context } = g;
      const input = (slot: number) => g.input(slot, [count]);
      const gradient = g.result(GRADIENT, ggml.ggml_mul(context, input(GRADIENT), g.input(SCALE, [1])));
      const values = input(VALUES);
      ggml.ggml_set_param(values);
      const settings = g.input(SETTINGS, [ADAM_SETTING_COUNT]);
      g.result(VALUES, ggml.ggml_opt_step_adamw(context, values, gradient, input(FIRST), input(SECOND), settings));
    });
  }

  run({ values, gradient, first, second }: AdamAddresses, update: AdamUpdate): void {
    const { settings, step, gradientScale, learningRate } = update;
    this.#scale.values[0] = gradientScale;
    this.#settings.values.set(adamSettingValues(settings, step, learningRate));
    this.#graph.run(values, gradient, first, second, this.#scale.address, this.#settings.address);
  }

  dispose(): void {
    this.#graph.dispose();
  }
}
