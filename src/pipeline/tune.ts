import { UNRELATED_TEXT } from '../cartridge/initializers/unrelated-text.js';
import { hashWeights } from '../cartridge/weights-hash.js';
import { cacheFolder } from '../core/environment.js';
import { throwIfAborted } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import { compareLogits, type LogitDifference, QUANTIZED_TOLERANCE } from '../inference/compare-logits.js';
import type { InferenceEngine } from '../inference/inference-engine.js';
import { LanguageModel } from '../inference/language-model.js';
import { logitsOf } from '../inference/score.js';
import { type GgufFile, readGguf } from '../models/gguf.js';
import { resolveModel } from '../models/hub/resolve-model.js';
import { resolveThreads } from '../native/devices.js';
import { type EngineTuning, standardThreads, writeTuning } from './engine-tuning.js';
import { mayGainFromCopy, weightsPath } from './weights-copy.js';

export interface TuneOptions extends RunOptions {
  /** A GGUF, `org/name[:file]` in the Hugging Face cache, or `pocket`. */
  model: string;
  /** The most threads to try; 0 is one for each processor. */
  threads?: number;
}

/** How fast one setting of the engine is; tokens a second. */
export interface TuningSpeed {
  /** Reading a prompt. */
  prompt: number;
  /** New tokens of several answers at once, and of one alone. */
  decode: number;
  decodeAlone: number;
}

export interface TuningTrial {
  tuning: EngineTuning;
  speed: TuningSpeed;
  /** Of the work that stands for a usual one; the least wins. */
  milliseconds: number;
  /** Whether a copy of the weights, if it has one, says the same as the stored ones; else it is measured and not taken. */
  isFaithful: boolean;
}

export interface TuneReport {
  chosen: TuningTrial;
  /** What is taken without a tuning. */
  standard: TuningTrial;
  trials: TuningTrial[];
  /** The file that keeps the choice. */
  path: string;
}

const PROMPT_TOKENS = 512;
const ANSWERS = 8;
const NEW_TOKENS = 16;
const CONTEXT_TOKENS = 2 * (PROMPT_TOKENS + ANSWERS * 2 * NEW_TOKENS);
/** The best of so many runs counts. */
const RUNS = 3;
/** A change must win so much to be taken: less is noise, and fewer threads leave more to others. */
const WORTHWHILE_GAIN = 1.04;
const STANDARD_WEIGHTS = { extraBuffers: true, weights: 'stored' } as const;
const SAMPLE_TOKENS = 128;

/**
 * Finds the settings of libllama that are fastest for a model on this machine: one setting after the other is varied, the best
 * value is kept, and the choice is written where {@link readTuning} finds it. Only for the processor: a GPU has other bounds.
 */
export async function tuneModel(options: TuneOptions): Promise<TuneReport> {
  const modelPath = await resolveModel(options.model);
  const gguf = readGguf(modelPath);
  const weightsHash = await hashWeights(gguf, cacheFolder(), options);
  const models = new LoadedModels(gguf, weightsHash, options);
  try {
    const search = new Search(models, options);
    const standard = await search.try(standardTuning(await models.of(STANDARD_WEIGHTS)));
    let best = standard;
    for (const { variants, milliseconds = (trial: TuningTrial) => trial.milliseconds } of dimensions(gguf)) {
      for (const tuning of variants(best.tuning, resolveThreads(options.threads))) {
        const trial = await search.try(tuning);
        const wins = () => trial.isFaithful && milliseconds(trial) * WORTHWHILE_GAIN < milliseconds(best);
        // Minutes lie between the two, in which the machine may have become faster.
        if (wins()) for (const rival of [best, trial]) await search.again(rival);
        if (wins()) best = trial;
      }
    }
    const path = await writeTuning(weightsHash, best.tuning);
    return { chosen: best, standard, trials: search.trials, path };
  } finally {
    await models.dispose();
  }
}

function standardTuning(model: LanguageModel): EngineTuning {
  const threads = standardThreads(model);
  const settings = { threads, decodeThreads: threads, batchTokens: 512, flashAttention: true, cacheType: 'f16' } as const;
  return { ...settings, ...STANDARD_WEIGHTS };
}

interface Dimension {
  variants: (best: EngineTuning, maxThreads: number) => EngineTuning[];
  /** What the setting can change; all of the usual work by default. The rest would only add its noise. */
  milliseconds?: (trial: TuningTrial) => number;
}

/** In the order of what they usually change. */
function dimensions(gguf: GgufFile): readonly Dimension[] {
  const copies = mayGainFromCopy(gguf) ? (['q8_0'] as const) : [];
  return [
    { variants: (best, most) => threadCounts(most).map((threads) => ({ ...best, threads, decodeThreads: threads })) },
    {
      variants: (best, most) => threadCounts(most).map((decodeThreads) => ({ ...best, decodeThreads })),
      milliseconds: ({ speed }) => 1000 / speed.decodeAlone,
    },
    { variants: (best) => copies.map((weights) => ({ ...best, weights })) },
    { variants: (best) => [{ ...best, extraBuffers: !best.extraBuffers }] },
    { variants: (best) => [{ ...best, flashAttention: !best.flashAttention }] },
    { variants: (best) => [128, 256].map((batchTokens) => ({ ...best, batchTokens })) },
    { variants: (best) => (['bf16', 'f32'] as const).map((cacheType) => ({ ...best, cacheType })) },
  ];
}

function threadCounts(most: number): number[] {
  const counts = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64].filter((count) => count < most);
  return [...counts, most];
}

class Search {
  readonly trials: TuningTrial[] = [];
  readonly #models: LoadedModels;
  readonly #run: RunOptions;
  #faithful: Promise<boolean> | undefined;

  constructor(models: LoadedModels, run: RunOptions) {
    this.#models = models;
    this.#run = run;
  }

  async try(tuning: EngineTuning): Promise<TuningTrial> {
    throwIfAborted(this.#run.signal);
    const known = this.trials.find((trial) => JSON.stringify(trial.tuning) === JSON.stringify(tuning));
    if (known) return known;
    const { extraBuffers, weights } = tuning;
    const isFaithful = weights === 'stored' || (await this.#isFaithful({ extraBuffers, weights }));
    const speed = await this.#measure(tuning);
    const trial = { tuning, speed, milliseconds: usualWork(speed), isFaithful };
    this.trials.push(trial);
    return trial;
  }

  /** Measures a trial once more; its best figures count. */
  async again(trial: TuningTrial): Promise<void> {
    trial.speed = fastest(trial.speed, await this.#measure(trial.tuning));
    trial.milliseconds = usualWork(trial.speed);
  }

  async #measure(tuning: EngineTuning): Promise<TuningSpeed> {
    const { extraBuffers, weights, ...settings } = tuning;
    const model = await this.#models.of({ extraBuffers, weights });
    const engine = await model.createContext({ ...settings, contextTokens: CONTEXT_TOKENS, maxRequests: ANSWERS });
    try {
      const speed = await measure(engine, this.#run.signal);
      this.#note(describeSpeed(tuning, speed));
      return speed;
    } finally {
      await engine.dispose();
    }
  }

  /** Whether a copy of the weights says what the stored ones say, as far as 8 bits for activations let anything be said. */
  async #isFaithful(copy: Weights): Promise<boolean> {
    this.#faithful ??= this.#compare(copy).then(({ meanKl, agreement }) => {
      this.#note(
        `weights ${copy.weights} beside the stored ones: KL ${meanKl.toExponential(1)} a token, ${(agreement * 100).toFixed(0)} % of the best tokens agree`,
      );
      return meanKl <= QUANTIZED_TOLERANCE.meanKl && agreement >= QUANTIZED_TOLERANCE.agreement;
    });
    return this.#faithful;
  }

  async #compare(copy: Weights): Promise<LogitDifference> {
    const stored = await sampleLogits(await this.#models.of({ ...copy, weights: 'stored' }));
    const model = await this.#models.of(copy);
    return compareLogits(stored, await sampleLogits(model), model.tokenizer.vocabularySize);
  }

  #note(message: string): void {
    this.#run.onProgress?.({ kind: 'note', stage: 'measure', message });
  }
}

/** Logits behind the first tokens of a text that every model can read. */
async function sampleLogits(model: LanguageModel): Promise<Float32Array> {
  const tokens = model.tokenizer.encode(UNRELATED_TEXT).subarray(0, SAMPLE_TOKENS);
  const engine = await model.createContext({ contextTokens: SAMPLE_TOKENS, maxRequests: 1 });
  return logitsOf(engine, tokens).finally(() => engine.dispose());
}

/** A prompt, answers to many at once, and one answer alone. */
function usualWork({ prompt, decode, decodeAlone }: TuningSpeed): number {
  return 1000 * (PROMPT_TOKENS / prompt + (ANSWERS * NEW_TOKENS) / decode + NEW_TOKENS / decodeAlone);
}

async function measure(engine: InferenceEngine, signal: AbortSignal | undefined): Promise<TuningSpeed> {
  let best: TuningSpeed = { prompt: 0, decode: 0, decodeAlone: 0 };
  for (let run = 0; run <= RUNS; run++) {
    throwIfAborted(signal);
    const alone = await answer(engine, 1, PROMPT_TOKENS);
    const together = await answer(engine, ANSWERS, NEW_TOKENS);
    // The first run fills caches of the processor.
    if (run === 0) continue;
    best = fastest(best, { prompt: alone.prompt, decode: together.decode, decodeAlone: alone.decode });
  }
  return best;
}

/** On a shared machine others only make a run slower. */
function fastest(a: TuningSpeed, b: TuningSpeed): TuningSpeed {
  return {
    prompt: Math.max(a.prompt, b.prompt),
    decode: Math.max(a.decode, b.decode),
    decodeAlone: Math.max(a.decodeAlone, b.decodeAlone),
  };
}

async function answer(engine: InferenceEngine, count: number, promptTokens: number): Promise<{ prompt: number; decode: number }> {
  const { vocabularySize } = engine.tokenizer;
  const started = performance.now();
  const completions = await Promise.all(
    Array.from({ length: count }, (_, index) =>
      engine.complete({
        prompt: Int32Array.from({ length: promptTokens }, (_token, at) => (97 * (at + 1) + 31 * index) % vocabularySize),
        maxTokens: NEW_TOKENS,
        sampling: { temperature: 0 },
        ignoreEndOfGeneration: true,
      }),
    ),
  );
  const totalMs = performance.now() - started;
  const firstMs = Math.max(...completions.map(({ timings }) => timings.timeToFirstTokenMs));
  return {
    prompt: (1000 * count * promptTokens) / firstMs,
    decode: (1000 * count * (NEW_TOKENS - 1)) / (totalMs - firstMs),
  };
}

function describeSpeed(tuning: EngineTuning, speed: TuningSpeed): string {
  const settings = Object.entries(tuning).map(([name, value]) => `${name} ${value}`);
  const [prompt, decode, alone] = [speed.prompt, speed.decode, speed.decodeAlone].map((rate) => rate.toFixed(0));
  return `${settings.join(', ')}: prompt ${prompt}, decode ${decode}, alone ${alone} tokens/s`;
}

/** How the weights lie in memory. */
type Weights = Pick<EngineTuning, 'extraBuffers' | 'weights'>;

/** The model with its weights in one form after the other: the memory may not hold two of them. */
class LoadedModels {
  readonly #gguf: GgufFile;
  readonly #weightsHash: string;
  readonly #options: TuneOptions;
  #loaded: { model: LanguageModel; weights: Weights } | undefined;

  constructor(gguf: GgufFile, weightsHash: string, options: TuneOptions) {
    this.#gguf = gguf;
    this.#weightsHash = weightsHash;
    this.#options = options;
  }

  async of({ extraBuffers, weights }: Weights): Promise<LanguageModel> {
    const loaded = this.#loaded;
    if (loaded?.weights.extraBuffers === extraBuffers && loaded.weights.weights === weights) return loaded.model;
    await this.dispose();
    const copy = await weightsPath(this.#gguf, this.#weightsHash, weights, this.#options);
    const paths = { modelPath: this.#gguf.path, weightsPath: copy };
    const model = await LanguageModel.load({ ...this.#options, ...paths, extraBuffers, device: 'cpu' });
    this.#loaded = { model, weights: { extraBuffers, weights } };
    return model;
  }

  async dispose(): Promise<void> {
    const { model } = this.#loaded ?? {};
    this.#loaded = undefined;
    await model?.dispose();
  }
}
