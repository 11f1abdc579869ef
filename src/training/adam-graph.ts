import { GgmlType } from '../native/ggml.js';
import type { GgmlTensor } from '../native/handles.js';
import { ADAM_SETTING_COUNT, type AdamSettings, adamSettingValues } from '../tensor/adam.js';
import type { Backend } from '../tensor/backend.js';
import { CompiledGraph } from '../tensor/compiled-graph.js';
import { Graph } from '../tensor/graph.js';
import { type StoredTensor, TensorStore } from '../tensor/tensor-store.js';
import type { GraphLane } from './graph-lane.js';
import type { TrainedCartridge } from './trained-cartridge.js';

export interface AdamGraphOptions {
  cartridge: TrainedCartridge;
  /** The gradient of its rows is the sum of theirs. */
  lanes: readonly GraphLane[];
  /** First rows that never change. */
  frozenCount: number;
  adam: AdamSettings;
}

/**
 * Adam's update of a cartridge where its rows lie, on any backend: neither rows nor gradients leave the device. It computes where the
 * first lane does, on a processor with the threads of that lane: memory limits it, and more threads would wait for each other.
 */
export class AdamGraph {
  readonly #options: AdamGraphOptions;
  readonly #inputs: TensorStore;
  /** What the gradient of each row of the cartridge is multiplied by, [p]: 0 for those that are frozen. */
  readonly #rowFactors: StoredTensor;
  readonly #settings: StoredTensor;
  readonly #graphs: CompiledGraph[] = [];
  readonly #norm: { graph: CompiledGraph; squareSum: GgmlTensor };
  readonly #update: CompiledGraph;

  /** Throws `OUT_OF_MEMORY`. */
  constructor(backend: Backend, options: AdamGraphOptions) {
    this.#options = options;
    this.#inputs = new TensorStore(backend, 2);
    this.#rowFactors = this.#inputs.declare(GgmlType.F32, 1, 1, options.cartridge.rows.tokenCount);
    this.#settings = this.#inputs.declare(GgmlType.F32, ADAM_SETTING_COUNT);
    try {
      this.#inputs.allocate("the optimiser's settings");
      this.#norm = this.#buildNorm(backend);
      this.#update = this.#buildUpdate(backend);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** The Euclidean norm of the gradient times `scale`, frozen rows left out. */
  async gradientNorm(scale: number): Promise<number> {
    const { graph, squareSum } = this.#norm;
    this.#writeFactors(scale);
    await graph.compute();
    const [sum] = graph.read(squareSum, new Float32Array(1));
    return Math.sqrt(sum!);
  }

  /** One update with the gradient times `scale`. */
  async update(scale: number, learningRate: number): Promise<void> {
    const { cartridge, adam } = this.#options;
    this.#writeFactors(scale);
    this.#inputs.write(this.#settings, Float32Array.from(adamSettingValues(adam, cartridge.updates + 1, learningRate)));
    await this.#update.compute();
    cartridge.updates++;
  }

  dispose(): void {
    for (const graph of this.#graphs) graph.dispose();
    this.#inputs.dispose();
  }

  #writeFactors(scale: number): void {
    const { cartridge, frozenCount } = this.#options;
    const factors = new Float32Array(cartridge.rows.tokenCount).fill(scale).fill(0, 0, frozenCount);
    this.#inputs.write(this.#rowFactors, factors);
  }

  #buildNorm(backend: Backend): { graph: CompiledGraph; squareSum: GgmlTensor } {
    const graph = new Graph(backend);
    const { ggml } = backend.engine;
    const squareSum = this.#scaledGradients(graph)
      .map((gradient) => ggml.ggml_sum(graph.context, ggml.ggml_sqr(graph.context, gradient)))
      .reduce((sum, part) => ggml.ggml_add(graph.context, sum, part));
    return { graph: this.#compile(graph, [squareSum]), squareSum };
  }

  #buildUpdate(backend: Backend): CompiledGraph {
    const graph = new Graph(backend);
    const { ggml } = backend.engine;
    const { rows, first, second } = this.#options.cartridge;
    const [parameters, firsts, seconds] = [rows.all, first.all, second.all];
    const updated = this.#scaledGradients(graph).map((gradient, index) => {
      const [parameter, m, v] = [parameters[index]!, firsts[index]!, seconds[index]!];
      ggml.ggml_set_param(parameter.handle);
      return ggml.ggml_opt_step_adamw(graph.context, parameter.handle, gradient, m.handle, v.handle, this.#settings.handle);
    });
    return this.#compile(graph, updated);
  }

  /** In the order of the rows' tensors. */
  #scaledGradients({ context, backend }: Graph): GgmlTensor[] {
    const { ggml } = backend.engine;
    const [own, ...others] = this.#options.lanes.map((lane) => lane.gradientSums.all.map(({ handle }) => handle));
    return own!.map((handle, index) => {
      const sum = others.reduce((total, each) => ggml.ggml_add(context, total, each[index]!), handle);
      return ggml.ggml_mul(context, sum, this.#rowFactors.handle);
    });
  }

  #compile(graph: Graph, outputs: readonly GgmlTensor[]): CompiledGraph {
    const compiled = new CompiledGraph(graph, outputs, this.#options.lanes[0]!.backend);
    this.#graphs.push(compiled);
    return compiled;
  }
}
