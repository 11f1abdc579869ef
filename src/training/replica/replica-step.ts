import { setImmediate } from 'node:timers/promises';
import type { FrozenModel } from '../../models/frozen-model.js';
import { chooseDevice, createBackend } from '../../native/devices.js';
import type { GgmlBackend } from '../../native/handles.js';
import { type AdamSettings, DEFAULT_ADAM } from '../../tensor/adam.js';
import { NativeMemory } from '../../tensor/native-memory.js';
import type { ProductsChoice } from '../../tensor/products/open-products.js';
import { deal, PACKS_OF_SLICE, settled } from '../deal.js';
import type { MemoryPlan } from '../memory-plan.js';
import type { Pack } from '../pack.js';
import { clipFactor, countRows, LOGIT_CHUNK_BYTES, nothingAccumulated, type StepOptions, stepLoss } from '../step-options.js';
import type { CartridgeGradients, LossKind, StepLoss, TrainingState, TrainingStep } from '../training-step.js';
import type { HeadSquares, Requests, WorkerStart } from './protocol.js';
import { describeModel } from './replica-model.js';
import { chooseReplicaPlan, type ReplicaPlan } from './replica-plan.js';
import type { ReplicaShape } from './replica-shape.js';
import { type ReplicaThread, startReplicaThread } from './replica-thread.js';
import { cutPack, type ReplicaUnit } from './replica-unit.js';
import { SharedCartridge, type SharedRows } from './shared-cartridge.js';
import type { WorkTimes } from './work-clock.js';

export interface ReplicaStepOptions extends StepOptions {
  /** Worker threads: one for each processor that shall compute. */
  workers: number;
  /** Who multiplies. The model must have been loaded in a type that it takes. */
  products: ProductsChoice;
  /** Times native code by kind of work, for {@link ReplicaStep.takeProfile}. */
  profiles?: boolean;
}

/**
 * The training step for processors: each worker thread takes some slots of a pack through the whole model, alone and on one
 * core. Weights and cartridge are shared by address, and nothing is waited for inside a step. A core that another program
 * takes for a moment slows one worker down, and not every operation of all of them.
 *
 * The main thread only deals out work: unit i goes to worker i mod `workers`, and gradients are added up in the order of the
 * workers, so results do not depend on who is faster.
 */
export class ReplicaStep implements TrainingStep {
  readonly plan: MemoryPlan;
  readonly lanes: number;
  /** What the workers multiply with, in the library's words. */
  readonly implementations: readonly string[];
  /** What the products of one worker need, by their own account: a part of the plan. */
  readonly scratchBytes: number;
  readonly #shape: ReplicaShape;
  readonly #loss: LossKind;
  readonly #gradientClip: number;
  readonly #adam: AdamSettings;
  readonly #layers: number;
  readonly #team: Team;
  #adamStep = 0;
  #normalizer = 0;
  #rowsChanged = true;

  private constructor(model: FrozenModel, options: ReplicaStepOptions, plan: ReplicaPlan, team: Team, started: Started[]) {
    this.plan = plan;
    this.#shape = plan.shape;
    this.#loss = options.loss ?? 'token-mean';
    this.#gradientClip = options.gradientClip ?? 0;
    this.#adam = options.adam ?? DEFAULT_ADAM;
    this.#layers = model.config.layers;
    this.#team = team;
    this.lanes = options.workers;
    this.implementations = started[0]!.implementations;
    this.scratchBytes = started[0]!.scratchBytes;
  }

  /**
   * Plans the memory and starts the workers. Throws `OUT_OF_MEMORY`, with the plan when it is larger than `memoryBytes`, and
   * `ENGINE_FAILURE` when a worker cannot start.
   */
  static async create(model: FrozenModel, options: ReplicaStepOptions): Promise<ReplicaStep> {
    const { logitChunkBytes = LOGIT_CHUNK_BYTES, memoryBytes = Number.POSITIVE_INFINITY } = options;
    const sizes = { weightBytes: model.byteLength, prefixTokens: countRows(options, model.config), logitChunkBytes };
    const plan = chooseReplicaPlan(model.config, { ...options, ...sizes }, memoryBytes);
    const team = new Team(model, options, plan);
    try {
      const started = await team.all('start', {});
      await team.cartridge.fromLayers([...options.keys, ...options.values], ({ values }) => values);
      return new ReplicaStep(model, options, plan, team, started);
    } catch (error) {
      team.dispose();
      throw error;
    }
  }

  async accumulate(packs: readonly Pack[], signal?: AbortSignal): Promise<StepLoss> {
    const loss = await this.#deal(packs, true, signal);
    this.#normalizer += loss.normalizer;
    return loss;
  }

  evaluate(packs: readonly Pack[], signal?: AbortSignal): Promise<StepLoss> {
    return this.#deal(packs, false, signal);
  }

  async update(learningRate: number): Promise<{ gradientNorm: number }> {
    if (this.#normalizer === 0) throw nothingAccumulated();
    const scale = 1 / this.#normalizer;
    // A gradient that may be clipped must be known whole before any of it is applied: the workers wait once more.
    const clips = this.#gradientClip > 0;
    const reduced = clips ? normOf(await this.#team.all('reduce', {}), scale) : undefined;
    const gradientScale = scale * clipFactor(reduced ?? 0, this.#gradientClip);
    const update = { settings: this.#adam, step: ++this.#adamStep, gradientScale, learningRate };
    const updated = await this.#team.all('update', { update, reduces: !clips });
    this.#normalizer = 0;
    return { gradientNorm: reduced ?? normOf(updated, scale) };
  }

  async gradients(): Promise<CartridgeGradients> {
    const frozen = this.#team.cartridge.frozenValues;
    const sum = ({ gradients }: SharedRows) =>
      gradients[0]!.map((_, i) => gradients.reduce((total, part) => total + part[i]!, 0)).fill(0, 0, frozen);
    return this.#byKind(await this.#team.cartridge.toLayers(sum));
  }

  async state(): Promise<TrainingState> {
    const { cartridge } = this.#team;
    const first = await cartridge.toLayers((rows) => rows.first);
    const second = await cartridge.toLayers((rows) => rows.second);
    const rows = this.#byKind(await cartridge.toLayers(({ values }) => values));
    return { ...rows, adam: { step: this.#adamStep, first, second } };
  }

  async restore({ keys, values, adam }: TrainingState): Promise<void> {
    const { cartridge } = this.#team;
    await cartridge.fromLayers([...keys, ...values], (rows) => rows.values);
    await cartridge.fromLayers(adam.first, ({ first }) => first);
    await cartridge.fromLayers(adam.second, ({ second }) => second);
    await cartridge.clearGradients();
    this.#adamStep = adam.step;
    this.#normalizer = 0;
    this.#rowsChanged = true;
  }

  /** What native code took in each worker since the last call, by kind of work; zeros unless the step `profiles`. */
  async takeProfile(): Promise<WorkTimes[]> {
    return (await this.#team.all('profile', {})).map(({ times }) => times);
  }

  dispose(): void {
    this.#team.dispose();
  }

  async #deal(packs: readonly Pack[], wantsGradient: boolean, signal: AbortSignal | undefined): Promise<StepLoss> {
    if (this.#rowsChanged) await this.#team.all('refresh', {});
    this.#rowsChanged = false;
    const losses = await this.#team.run(await cutPacks(packs, this.#shape), wantsGradient, signal);
    return stepLoss(
      packs,
      losses.reduce((sum, loss) => sum + loss, 0),
      this.#loss,
    );
  }

  #byKind(arrays: Float32Array[]): CartridgeGradients {
    return { keys: arrays.slice(0, this.#layers), values: arrays.slice(this.#layers) };
  }
}

/** Cuts packs into units, in slices between which the event loop has its turn. */
async function cutPacks(packs: readonly Pack[], shape: ReplicaShape): Promise<ReplicaUnit[]> {
  const units: ReplicaUnit[] = [];
  for (const [index, pack] of packs.entries()) {
    units.push(...cutPack(pack, shape));
    if ((index + 1) % PACKS_OF_SLICE === 0) await setImmediate();
  }
  return units;
}

/** The norm of a gradient from the shares of the workers. */
function normOf(parts: readonly { squares: HeadSquares[] }[], scale: number): number {
  // In the order of the heads, whoever added them up: the sum does not depend on the number of workers.
  const squares = parts.flatMap((part) => part.squares).sort(([a], [b]) => a - b);
  return Math.sqrt(squares.reduce((sum, [, square]) => sum + square, 0)) * scale;
}

type Started = Requests['start']['answer'];

/** The workers, and the memory that they share; this thread owns all of it. */
class Team {
  readonly cartridge: SharedCartridge;
  readonly #replicaBytes: number;
  readonly #model: FrozenModel;
  readonly #threads: ReplicaThread[] = [];
  readonly #memories: NativeMemory[] = [];
  readonly #backends: GgmlBackend[] = [];

  constructor(model: FrozenModel, { products, workers, profiles = false }: ReplicaStepOptions, plan: ReplicaPlan) {
    const { shape, cartridge, cartridgeBytes, replicaBytes } = plan;
    this.#model = model;
    this.#replicaBytes = replicaBytes;
    try {
      const { address: cartridgeAddress } = this.#allocate(cartridgeBytes, 'the cartridge and its optimiser');
      this.cartridge = new SharedCartridge(cartridge, cartridgeAddress);
      const common = { products, shape, model: describeModel(model), cartridge, cartridgeAddress, profiles };
      const starts = Array.from({ length: workers }, (_, index) => this.#startOf(index, common));
      // One by one into the list: those that were started are ended when another cannot be.
      for (const start of starts) this.#threads.push(startReplicaThread(start));
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** The same request to every worker; waits for all of them, also when one fails. */
  async all<Kind extends keyof Requests>(kind: Kind, request: Requests[Kind]['request']): Promise<Requests[Kind]['answer'][]> {
    return settled(this.#threads.map((thread) => thread.request(kind, request)));
  }

  /** Losses of units, in their order. */
  run(units: readonly ReplicaUnit[], wantsGradient: boolean, signal: AbortSignal | undefined): Promise<Float64Array> {
    return deal(
      this.#threads,
      units,
      async (thread, unit) => (await thread.request('run', { unit, wantsGradient })).loss,
      signal,
    );
  }

  /** Memory is freed when the workers have ended. */
  dispose(): void {
    const { ggml } = this.#model.backend.engine;
    void Promise.all(this.#threads.map((thread) => thread.close())).then(() => {
      for (const backend of this.#backends) ggml.ggml_backend_free(backend);
      for (const memory of this.#memories) memory.dispose();
    });
  }

  #startOf(
    index: number,
    common: Omit<WorkerStart, 'index' | 'libraries' | 'backend' | 'buffer' | 'memoryAddress'>,
  ): WorkerStart {
    const { engine } = this.#model.backend;
    const backend = createBackend(engine, chooseDevice(engine, 'cpu'), 1);
    this.#backends.push(backend);
    const { address, buffer } = this.#allocate(this.#replicaBytes, 'the activations of a training step');
    const { base, ggml } = engine.files;
    return { ...common, index, libraries: { base, ggml }, backend, buffer, memoryAddress: address };
  }

  #allocate(bytes: number, what: string): NativeMemory {
    const { backend } = this.#model;
    const memory = new NativeMemory(backend.engine.ggml, backend.handle, bytes, what);
    this.#memories.push(memory);
    return memory;
  }
}
