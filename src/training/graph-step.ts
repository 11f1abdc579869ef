import type { FrozenModel } from '../models/frozen-model.js';
import type { GgmlBackend } from '../native/handles.js';
import { DEFAULT_ADAM } from '../tensor/adam.js';
import { addTo } from '../tensor/sums.js';
import { AdamGraph } from './adam-graph.js';
import { deal } from './deal.js';
import { createFittingLanes, type PlannedLanes } from './fitting-lanes.js';
import { GraphLane, type LaneOptions } from './graph-lane.js';
import { describeRecomputation, type MemoryPlan, planMemory } from './memory-plan.js';
import type { Pack } from './pack.js';
import { clipFactor, LOGIT_CHUNK_BYTES, nothingAccumulated, type StepOptions, stepLoss } from './step-options.js';
import { TrainedCartridge } from './trained-cartridge.js';
import type { CartridgeGradients, LossKind, StepLoss, TrainingState, TrainingStep } from './training-step.js';

export interface GraphStepOptions extends StepOptions {
  /** Packs that are computed side by side on a processor. */
  lanes?: number;
}

/** Calls that Node runs beside each other (its thread pool): more lanes would only wait. */
const MAX_LANES = 4;

/**
 * The reference training step: one ggml graph with reverse mode, on any backend. The graph for the gradient and the one for
 * validation are built once a lane for the shape of the packs. Rows, gradients and Adam's moments stay on the device.
 */
export class GraphStep implements TrainingStep {
  readonly plan: MemoryPlan;
  readonly #model: FrozenModel;
  readonly #loss: LossKind;
  readonly #gradientClip: number;
  readonly #frozenCount: number;
  readonly #cartridge: TrainedCartridge;
  readonly #lanes: readonly GraphLane[];
  readonly #adam: AdamGraph;
  /** Frees what was made, in the order in which it was made. */
  readonly #frees: (() => void)[] = [];
  #normalizer = 0;

  /** Throws `OUT_OF_MEMORY`, with the plan when it is larger than `memoryBytes`. */
  constructor(model: FrozenModel, options: GraphStepOptions) {
    this.#model = model;
    this.#loss = options.loss ?? 'token-mean';
    this.#gradientClip = options.gradientClip ?? 0;
    this.#frozenCount = options.frozenCount;
    try {
      const cartridge = new TrainedCartridge(model, options);
      this.#frees.push(() => cartridge.dispose());
      this.#cartridge = cartridge;
      ({ lanes: this.#lanes, plan: this.plan } = this.#createLanes(options));
      const { frozenCount, adam = DEFAULT_ADAM } = options;
      this.#adam = new AdamGraph(model.backend, { cartridge, lanes: this.#lanes, frozenCount, adam });
      this.#frees.push(() => this.#adam.dispose());
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  get lanes(): number {
    return this.#lanes.length;
  }

  accumulate(packs: readonly Pack[], signal?: AbortSignal): Promise<StepLoss> {
    return this.#deal(packs, (lane, pack) => lane.accumulate(pack), signal).then((loss) => {
      this.#normalizer += loss.normalizer;
      return loss;
    });
  }

  evaluate(packs: readonly Pack[], signal?: AbortSignal): Promise<StepLoss> {
    return this.#deal(packs, (lane, pack) => lane.evaluate(pack), signal);
  }

  async update(learningRate: number): Promise<{ gradientNorm: number }> {
    if (this.#normalizer === 0) throw nothingAccumulated();
    const scale = 1 / this.#normalizer;
    const gradientNorm = await this.#adam.gradientNorm(scale);
    await this.#adam.update(scale * clipFactor(gradientNorm, this.#gradientClip), learningRate);
    await this.#clearGradients();
    return { gradientNorm };
  }

  async gradients(): Promise<CartridgeGradients> {
    const [total, ...others] = await Promise.all(this.#lanes.map(({ gradientSums }) => gradientSums.read()));
    for (const other of others) for (const [index, sum] of total!.entries()) addTo(sum, other[index]!);
    for (const sum of total!) sum.fill(0, 0, (sum.length / this.#cartridge.rows.tokenCount) * this.#frozenCount);
    return this.#cartridge.rows.byKind(total!);
  }

  state(): Promise<TrainingState> {
    return this.#cartridge.state();
  }

  async restore(state: TrainingState): Promise<void> {
    await this.#cartridge.restore(state);
    await this.#clearGradients();
  }

  dispose(): void {
    for (const free of this.#frees.splice(0).reverse()) free();
  }

  /** Losses are added in the order of the packs. */
  async #deal(
    packs: readonly Pack[],
    run: (lane: GraphLane, pack: Pack) => Promise<number>,
    signal: AbortSignal | undefined,
  ): Promise<StepLoss> {
    const losses = await deal(this.#lanes, packs, run, signal);
    return stepLoss(
      packs,
      losses.reduce((sum, loss) => sum + loss, 0),
      this.#loss,
    );
  }

  async #clearGradients(): Promise<void> {
    await Promise.all(this.#lanes.map(({ gradientSums }) => gradientSums.clear()));
    this.#normalizer = 0;
  }

  #createLanes({ lanes: most = MAX_LANES, ...options }: GraphStepOptions): PlannedLanes {
    const { shape, logitChunkBytes = LOGIT_CHUNK_BYTES, memoryBytes = Number.POSITIVE_INFINITY } = options;
    const { backend, config } = this.#model;
    const backends = backend.createLanes(Math.min(MAX_LANES, most));
    this.#frees.push(() => backend.freeLanes(backends));
    const cartridge = this.#cartridge.rows;
    const planned = createFittingLanes(config.layers, memoryBytes, (recomputedLayers) => {
      const lanes = createLanes(this.#model, backends, { shape, cartridge, logitChunkBytes, recomputedLayers });
      return { lanes, plan: this.#planMemory(lanes, recomputedLayers) };
    });
    for (const lane of planned.lanes) this.#frees.push(() => lane.dispose());
    return planned;
  }

  #planMemory(lanes: readonly GraphLane[], recomputedLayers: number): MemoryPlan {
    const sizes = lanes.map((lane) => lane.byteLengths);
    const parts = {
      weights: this.#model.byteLength,
      'intermediate results': sizes.reduce((sum, { results }) => sum + results, 0),
      inputs: sizes.reduce((sum, { inputs }) => sum + inputs, 0),
      // What an update holds besides is one layer's gradient.
      'cartridge and optimiser': sizes.reduce((sum, { gradients }) => sum + gradients, this.#cartridge.byteLength),
    };
    return planMemory(parts, describeRecomputation(recomputedLayers, this.#model.config.layers));
  }
}

function createLanes(model: FrozenModel, backends: readonly GgmlBackend[], options: Omit<LaneOptions, 'backend'>): GraphLane[] {
  const lanes: GraphLane[] = [];
  try {
    for (const backend of backends) lanes.push(new GraphLane(model, { ...options, backend }));
    return lanes;
  } catch (error) {
    for (const lane of lanes) lane.dispose();
    throw error;
  }
}
