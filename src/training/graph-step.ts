import { copyInSlices, inSlices } from '../core/slices.js';
import type { FrozenModel } from '../models/frozen-model.js';
import type { GgmlBackend } from '../native/handles.js';
import { Adam, DEFAULT_ADAM } from '../tensor/adam.js';
import { addSquares, addTo } from '../tensor/sums.js';
import { deal } from './deal.js';
import { createFittingLanes } from './fitting-lanes.js';
import { GraphLane, type LaneOptions } from './graph-lane.js';
import { describeRecomputation, type MemoryPlan, planMemory } from './memory-plan.js';
import type { Pack } from './pack.js';
import { clipFactor, countRows, LOGIT_CHUNK_BYTES, nothingAccumulated, type StepOptions, stepLoss } from './step-options.js';
import type { CartridgeGradients, LossKind, StepLoss, TrainingState, TrainingStep } from './training-step.js';

export interface GraphStepOptions extends StepOptions {
  /** Packs that are computed side by side on a processor. */
  lanes?: number;
}

/** Calls that Node runs beside each other (its thread pool): more lanes would only wait. */
const MAX_LANES = 4;

/**
 * The reference training step: one ggml graph with reverse mode, on any backend. The graph for the gradient and the one for
 * validation are built once a lane for the shape of the packs; Adam runs on the host, since a cartridge is small.
 */
export class GraphStep implements TrainingStep {
  readonly plan: MemoryPlan;
  readonly #model: FrozenModel;
  readonly #frozenValues: number;
  readonly #loss: LossKind;
  readonly #gradientClip: number;
  readonly #backends: readonly GgmlBackend[];
  readonly #lanes: readonly GraphLane[];
  readonly #adam: Adam;
  #rows: Float32Array[];
  #normalizer = 0;
  #rowsChanged = true;

  /** Throws `OUT_OF_MEMORY`, with the plan when it is larger than `memoryBytes`. */
  constructor(model: FrozenModel, options: GraphStepOptions) {
    const { kvHeads, headDimension } = model.config;
    const tokenCount = countRows(options, model.config);
    this.#model = model;
    this.#frozenValues = options.frozenCount * kvHeads * headDimension;
    this.#loss = options.loss ?? 'token-mean';
    this.#gradientClip = options.gradientClip ?? 0;
    this.#rows = [...options.keys, ...options.values].map((rows) => rows.slice());
    this.#adam = new Adam(this.#rows, this.#frozenValues, options.adam ?? DEFAULT_ADAM);
    const { shape, logitChunkBytes = LOGIT_CHUNK_BYTES, memoryBytes = Number.POSITIVE_INFINITY } = options;
    this.#backends = model.backend.createLanes(Math.min(MAX_LANES, options.lanes ?? MAX_LANES));
    const create = (recomputedLayers: number) => {
      const lanes = createLanes(model, this.#backends, { shape, tokenCount, logitChunkBytes, recomputedLayers });
      return { lanes, plan: this.#planMemory(lanes, recomputedLayers) };
    };
    try {
      ({ lanes: this.#lanes, plan: this.plan } = createFittingLanes(model.config.layers, memoryBytes, create));
    } catch (error) {
      model.backend.freeLanes(this.#backends);
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
    // In the first lane's own arrays: they are cleared afterwards.
    const { gradients } = this.#lanes[0]!;
    const scale = 1 / this.#normalizer;
    const gradientNorm = Math.sqrt(await this.#addOtherLanes(gradients)) * scale;
    const clip = clipFactor(gradientNorm, this.#gradientClip);
    await this.#adam.update(this.#rows, gradients, scale * clip, learningRate);
    await this.#clearGradients();
    this.#rowsChanged = true;
    return { gradientNorm };
  }

  async gradients(): Promise<CartridgeGradients> {
    const gradients = await copyInSlices(this.#lanes[0]!.gradients);
    await this.#addOtherLanes(gradients);
    return this.#byKind(gradients);
  }

  async state(): Promise<TrainingState> {
    return { ...this.#byKind(await copyInSlices(this.#rows)), adam: await this.#adam.state() };
  }

  async restore(state: TrainingState): Promise<void> {
    this.#rows = await copyInSlices([...state.keys, ...state.values]);
    await this.#adam.restore(state.adam);
    await this.#clearGradients();
    this.#rowsChanged = true;
  }

  dispose(): void {
    for (const lane of this.#lanes) lane.dispose();
    this.#model.backend.freeLanes(this.#backends);
  }

  /** Losses are added in the order of the packs. */
  async #deal(
    packs: readonly Pack[],
    run: (lane: GraphLane, pack: Pack) => Promise<number>,
    signal: AbortSignal | undefined,
  ): Promise<StepLoss> {
    if (this.#rowsChanged) for (const lane of this.#lanes) await lane.writeRows(this.#rows);
    this.#rowsChanged = false;
    const losses = await deal(this.#lanes, packs, run, signal);
    return stepLoss(
      packs,
      losses.reduce((sum, loss) => sum + loss, 0),
      this.#loss,
    );
  }

  /** Completes the first lane's gradients, in place: the others are added, frozen rows become zero. Returns the sum of squares. */
  async #addOtherLanes(gradients: readonly Float32Array[]): Promise<number> {
    const others = this.#lanes.slice(1);
    let squares = 0;
    await inSlices(gradients, (index, first, end) => {
      const sum = gradients[index]!.subarray(first, end);
      for (const lane of others) addTo(sum, lane.gradients[index]!.subarray(first, end));
      sum.fill(0, 0, Math.max(0, this.#frozenValues - first));
      squares = addSquares(squares, sum);
    });
    return squares;
  }

  async #clearGradients(): Promise<void> {
    for (const lane of this.#lanes) await lane.clearGradients();
    this.#normalizer = 0;
  }

  #byKind(arrays: readonly Float32Array[]): CartridgeGradients {
    const { layers } = this.#model.config;
    return { keys: arrays.slice(0, layers), values: arrays.slice(layers) };
  }

  #planMemory(lanes: readonly GraphLane[], recomputedLayers: number): MemoryPlan {
    const cartridge = this.#rows.reduce((sum, rows) => sum + rows.byteLength, 0);
    const sizes = lanes.map((lane) => lane.byteLengths);
    const parts = {
      weights: this.#model.byteLength,
      'intermediate results': sizes.reduce((sum, { results }) => sum + results, 0),
      inputs: sizes.reduce((sum, { inputs }) => sum + inputs, 0),
      // Rows and two moments, and in each lane the gradient; the rows on the device are among the inputs.
      'cartridge and optimiser': cartridge * (3 + lanes.length),
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
