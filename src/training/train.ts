import { setImmediate } from 'node:timers/promises';
import { CartridgesError, throwIfAborted } from '../core/errors.js';
import type { ProgressListener, RunOptions } from '../core/progress.js';
import { Random } from '../core/random.js';
import { inSlices } from '../core/slices.js';
import type { RunTracker } from '../tracking/run-tracker.js';
import { type BestRows, type CheckpointStore, type DataPosition, startOfData } from './checkpoint.js';
import { PACKS_OF_SLICE } from './deal.js';
import type { TrainingExample } from './examples.js';
import { fillPack } from './fill-pack.js';
import { type Pack, type PackShape, usedTokens } from './pack.js';
import { dealIntoPacks, type PackContents } from './pack-contents.js';
import { packExamples } from './packing.js';
import { learningRateAt, type ScheduleSettings } from './schedule.js';
import type { StepLoss, TrainingState, TrainingStep } from './training-step.js';

export interface TrainSettings extends ScheduleSettings {
  seed: number;
  /** Packs whose gradients are added up before an update. */
  packsPerStep: number;
  /** Validation after so many updates, and after the last one. */
  validateEverySteps: number;
  /** A checkpoint after so many updates; 0 keeps none but the last. */
  checkpointEverySteps: number;
}

export interface TrainInput {
  step: TrainingStep;
  shape: PackShape;
  training: readonly TrainingExample[];
  validation: readonly TrainingExample[];
  settings: TrainSettings;
  checkpoints?: CheckpointStore;
  tracker?: RunTracker;
  /** Stops after the update that is running at this time (milliseconds, `performance.now`), with what there is. */
  deadline?: number;
}

export interface TrainResult {
  /** Rows of the update with the lowest validation divergence. */
  best: Pick<TrainingState, 'keys' | 'values'>;
  bestStep: number;
  /** KL divergence from the teacher in nats a supervised token; NaN without validation examples. */
  validationKl: number;
  steps: number;
  /** Supervised tokens of all updates, repetitions counted. */
  supervisedTokens: number;
  stoppedBy: 'steps' | 'deadline';
}

/**
 * Trains the rows of a cartridge: shuffles and packs the examples of each epoch from the seed, updates, validates, keeps the
 * best rows, writes checkpoints, and continues a stored checkpoint bit for bit.
 *
 * Throws `NON_FINITE_LOSS` when the loss, the gradient, the validation or a row is not a number (the last checkpoint stays),
 * `CANCELLED` when the signal aborts, after a checkpoint was written.
 */
export async function train(input: TrainInput, options: RunOptions = {}): Promise<TrainResult> {
  const run = new TrainingRun(input, options.onProgress);
  await run.restore();
  const { steps } = input.settings;
  let stoppedBy: TrainResult['stoppedBy'] = 'steps';
  try {
    while (run.stepsDone < steps) {
      throwIfAborted(options.signal);
      if (input.deadline !== undefined && performance.now() > input.deadline && run.stepsDone > 0) {
        stoppedBy = 'deadline';
        break;
      }
      await run.update(options.signal);
    }
    return await run.finish(stoppedBy, options.signal);
  } catch (error) {
    // Often in the middle of an update: that one is forgotten, and those before it are kept. After any other failure the rows
    // may be half updated.
    if (CartridgesError.is(error) && error.code === 'CANCELLED') await run.checkpoint();
    throw error;
  }
}

class TrainingRun {
  readonly #input: TrainInput;
  readonly #onProgress: ProgressListener | undefined;
  readonly #packs: EpochPacks;
  readonly #validationPacks: Pack[];
  #position: DataPosition = startOfData();
  /** The packs of the next update, laid out while the one before it computed. */
  #prepared: NextPacks | undefined;
  #best: BestRows | undefined;
  /** Steps that were done at the last validation. */
  #validatedAt: number | undefined;
  #stepsDone = 0;
  #supervisedTokens = 0;
  #speed = new Speedometer();

  constructor(input: TrainInput, onProgress: ProgressListener | undefined) {
    this.#input = input;
    this.#onProgress = onProgress;
    this.#packs = new EpochPacks(input.training, input.shape, input.settings.seed);
    this.#validationPacks = packExamples(input.validation, input.shape);
  }

  get stepsDone(): number {
    return this.#stepsDone;
  }

  async restore(): Promise<void> {
    const checkpoint = await this.#input.checkpoints?.read();
    await this.#input.tracker?.continueAfter(checkpoint?.stepsDone ?? 0);
    if (!checkpoint) return;
    await this.#input.step.restore(checkpoint.state);
    this.#position = checkpoint.position;
    this.#stepsDone = checkpoint.stepsDone;
    this.#supervisedTokens = checkpoint.supervisedTokens;
    this.#best = checkpoint.best;
    this.#validatedAt = checkpoint.best?.stepsDone;
    this.#onProgress?.({ kind: 'note', stage: 'train', message: `continuing after step ${checkpoint.stepsDone}` });
  }

  async update(signal: AbortSignal | undefined): Promise<void> {
    const { step, settings } = this.#input;
    const started = performance.now();
    const { packs, next } = this.#prepared ?? (await this.#nextPacks(this.#position));
    const computing = step.accumulate(packs, signal);
    const preparing = this.#stepsDone + 1 < settings.steps ? this.#nextPacks(next) : undefined;
    const loss = await computing;
    this.#prepared = await preparing;
    this.#requireFinite('loss', loss.lossSum);
    const learningRate = learningRateAt(this.#stepsDone, settings);
    const { gradientNorm } = await step.update(learningRate);
    // The rows are lost by now, but nothing was saved of them.
    this.#requireFinite('norm of the gradient', gradientNorm);
    this.#position = next;
    this.#stepsDone++;
    this.#supervisedTokens += packs.reduce((sum, pack) => sum + pack.supervisedTokens, 0);
    const tokens = packs.reduce((sum, pack) => sum + usedTokens(pack), 0);
    this.#speed.add(tokens, performance.now() - started);
    const fill = tokens / packs.reduce((sum, pack) => sum + pack.tokens.length, 0);
    this.#report(loss, { learningRate, gradientNorm, fill });
    if (this.#isDue(settings.validateEverySteps)) await this.#validate(signal);
    if (this.#isDue(settings.checkpointEverySteps)) await this.checkpoint();
  }

  async checkpoint(): Promise<void> {
    if (this.#stepsDone === 0) return;
    await this.#input.checkpoints?.write({
      state: await this.#finiteState(),
      position: this.#position,
      stepsDone: this.#stepsDone,
      supervisedTokens: this.#supervisedTokens,
      best: this.#best,
    });
  }

  async finish(stoppedBy: TrainResult['stoppedBy'], signal: AbortSignal | undefined): Promise<TrainResult> {
    if (this.#validatedAt !== this.#stepsDone) await this.#validate(signal);
    await this.checkpoint();
    const { stepsDone, validationKl, ...best } = this.#best!;
    return {
      best,
      bestStep: stepsDone,
      validationKl,
      steps: this.#stepsDone,
      supervisedTokens: this.#supervisedTokens,
      stoppedBy,
    };
  }

  #isDue(everySteps: number): boolean {
    return everySteps > 0 && this.#stepsDone % everySteps === 0;
  }

  /** Laid out in slices between which the event loop has its turn: a step may have hundreds of packs. */
  async #nextPacks(position: DataPosition): Promise<NextPacks> {
    const packs: Pack[] = [];
    let { epoch, pack } = position;
    while (packs.length < this.#input.settings.packsPerStep) {
      const dealt = this.#packs.of(epoch);
      packs.push(fillPack(dealt[pack]!, this.#input.shape));
      [epoch, pack] = pack + 1 === dealt.length ? [epoch + 1, 0] : [epoch, pack + 1];
      if (packs.length % PACKS_OF_SLICE === 0) await setImmediate();
    }
    return { packs, next: { epoch, pack } };
  }

  #requireFinite(what: string, value: number): void {
    if (Number.isFinite(value)) return;
    throw new CartridgesError('NON_FINITE_LOSS', `the ${what} is ${value} after ${this.#stepsDone} updates`, {
      hint: 'lower the learning rate; the last checkpoint is kept: with the settings as they are, --resume continues from it',
    });
  }

  /** What is saved: rows that no later step could use never replace good ones. */
  async #finiteState(): Promise<TrainingState> {
    const state = await this.#input.step.state();
    this.#requireFinite('sum of the rows', await sumOf([...state.keys, ...state.values]));
    return state;
  }

  /** Lowest divergence wins; without validation examples the newest rows do. */
  async #validate(signal: AbortSignal | undefined): Promise<void> {
    const { klSum, lossSum, normalizer } = await this.#input.step.evaluate(this.#validationPacks, signal);
    this.#requireFinite('validation divergence', klSum);
    this.#validatedAt = this.#stepsDone;
    const tokens = this.#validationPacks.reduce((sum, pack) => sum + pack.supervisedTokens, 0);
    const validationKl = tokens > 0 ? klSum / tokens : Number.NaN;
    const loss = lossSum / normalizer;
    this.#input.tracker?.log(this.#stepsDone, {
      'validation/kl': validationKl,
      'validation/loss': loss,
      'validation/perplexity': Math.exp(loss),
    });
    if (this.#best && validationKl >= this.#best.validationKl) return;
    const { keys, values } = await this.#finiteState();
    this.#best = { keys, values, stepsDone: this.#stepsDone, validationKl };
  }

  #report(loss: StepLoss, { learningRate, gradientNorm, fill }: Record<'learningRate' | 'gradientNorm' | 'fill', number>): void {
    const { settings, tracker } = this.#input;
    const tokensPerSecond = this.#speed.tokensPerSecond;
    const values = { loss: loss.lossSum / loss.normalizer, kl: loss.klSum / loss.normalizer };
    tracker?.log(this.#stepsDone, {
      'train/loss': values.loss,
      'train/kl': values.kl,
      'train/learning_rate': learningRate,
      'train/gradient_norm': gradientNorm,
      'train/tokens_per_second': tokensPerSecond,
      'train/pack_fill': fill,
      'train/supervised_tokens': this.#supervisedTokens,
      'process/resident_bytes': process.memoryUsage.rss(),
    });
    this.#onProgress?.({
      kind: 'progress',
      stage: 'train',
      done: this.#stepsDone,
      total: settings.steps,
      values: {
        ...values,
        ...(this.#best ? { 'validation kl': this.#best.validationKl } : {}),
        'tokens/s': tokensPerSecond,
        MiB: process.memoryUsage.rss() / 2 ** 20,
      },
    });
  }
}

/** The packs of one update, and where the data stands after it. */
interface NextPacks {
  packs: Pack[];
  next: DataPosition;
}

/** What the packs of an epoch hold follows from the seed and its number alone, so that a resumed run sees the same ones. */
class EpochPacks {
  readonly #examples: readonly TrainingExample[];
  readonly #shape: PackShape;
  readonly #random: Random;
  #epoch = -1;
  #packs: PackContents[] = [];

  constructor(examples: readonly TrainingExample[], shape: PackShape, seed: number) {
    this.#examples = examples;
    this.#shape = shape;
    this.#random = new Random(seed).fork('packs');
  }

  of(epoch: number): PackContents[] {
    if (epoch !== this.#epoch) {
      this.#packs = dealIntoPacks(this.#examples, this.#shape, this.#random.fork(`epoch ${epoch}`));
      this.#epoch = epoch;
    }
    return this.#packs;
  }
}

/** In doubles: finite numbers in f32 cannot add up to one that is not. */
async function sumOf(arrays: readonly Float32Array[]): Promise<number> {
  let sum = 0;
  await inSlices(arrays, (index, first, end) => {
    const array = arrays[index]!;
    for (let i = first; i < end; i++) sum += array[i]!;
  });
  return sum;
}

/** Tokens of conversations a second over the last updates: an average that forgets. */
class Speedometer {
  #tokens = 0;
  #milliseconds = 0;

  add(tokens: number, milliseconds: number): void {
    const KEPT = 0.9;
    this.#tokens = this.#tokens * KEPT + tokens;
    this.#milliseconds = this.#milliseconds * KEPT + milliseconds;
  }

  get tokensPerSecond(): number {
    return (this.#tokens / this.#milliseconds) * 1000;
  }
}
