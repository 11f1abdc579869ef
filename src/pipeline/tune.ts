import { hashWeights } from '../cartridge/weights-hash.js';
import { cacheFolder } from '../core/environment.js';
import { throwIfAborted } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import type { InferenceEngine } from '../inference/inference-engine.js';
import { LanguageModel, type LanguageModelOptions } from '../inference/language-model.js';
import { readGguf } from '../models/gguf.js';
import { resolveModel } from '../models/hub/resolve-model.js';
import { resolveThreads } from '../native/devices.js';
import { type EngineTuning, writeTuning } from './engine-tuning.js';

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
/** The best of so many runs: on a shared machine others only make a run slower. */
const RUNS = 3;
/** A change must win so much to be taken: less is noise, and fewer threads leave more to others. */
const WORTHWHILE_GAIN = 1.04;

/**
 * Finds the settings of libllama that are fastest for a model on this machine: one setting after the other is varied, the best
 * value is kept, and the choice is written where {@link readTuning} finds it. Only for the processor: a GPU has other bounds.
 */
export async function tuneModel(options: TuneOptions): Promise<TuneReport> {
  const modelPath = await resolveModel(options.model);
  const weightsHash = await hashWeights(readGguf(modelPath), cacheFolder(), options);
  const models = new LoadedModels({ ...options, modelPath, device: 'cpu' });
  try {
    const search = new Search(models, options);
    const standard = await search.try(standardTuning(await models.of(true)));
    let best = standard;
    for (const variants of DIMENSIONS) {
      for (const tuning of variants(best.tuning, resolveThreads(options.threads))) {
        const trial = await search.try(tuning);
        if (trial.milliseconds * WORTHWHILE_GAIN < best.milliseconds) best = trial;
      }
    }
    const path = await writeTuning(weightsHash, best.tuning);
    return { chosen: best, standard, trials: search.trials, path };
  } finally {
    await models.dispose();
  }
}

function standardTuning({ threads }: LanguageModel): EngineTuning {
  return { threads, decodeThreads: threads, batchTokens: 512, flashAttention: true, cacheType: 'f16', extraBuffers: true };
}

type Variants = (best: EngineTuning, maxThreads: number) => EngineTuning[];

/** In the order of what they usually change. */
const DIMENSIONS: readonly Variants[] = [
  (best, most) => threadCounts(most).map((threads) => ({ ...best, threads, decodeThreads: threads })),
  (best, most) => threadCounts(most).map((decodeThreads) => ({ ...best, decodeThreads })),
  (best) => [{ ...best, extraBuffers: !best.extraBuffers }],
  (best) => [{ ...best, flashAttention: !best.flashAttention }],
  (best) => [128, 256, 1024].map((batchTokens) => ({ ...best, batchTokens })),
  (best) => (['bf16', 'f32'] as const).map((cacheType) => ({ ...best, cacheType })),
];

function threadCounts(most: number): number[] {
  const counts = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64].filter((count) => count < most);
  return [...counts, most];
}

class Search {
  readonly trials: TuningTrial[] = [];
  readonly #models: LoadedModels;
  readonly #run: RunOptions;

  constructor(models: LoadedModels, run: RunOptions) {
    this.#models = models;
    this.#run = run;
  }

  async try(tuning: EngineTuning): Promise<TuningTrial> {
    throwIfAborted(this.#run.signal);
    const known = this.trials.find((trial) => JSON.stringify(trial.tuning) === JSON.stringify(tuning));
    if (known) return known;
    const { extraBuffers, ...settings } = tuning;
    const model = await this.#models.of(extraBuffers);
    const engine = await model.createContext({ ...settings, contextTokens: CONTEXT_TOKENS, maxRequests: ANSWERS });
    try {
      const speed = await measure(engine, this.#run.signal);
      const trial = { tuning, speed, milliseconds: usualWork(speed) };
      this.trials.push(trial);
      this.#run.onProgress?.({ kind: 'note', stage: 'measure', message: describeTrial(trial) });
      return trial;
    } finally {
      await engine.dispose();
    }
  }
}

/** A prompt, answers to many at once, and one answer alone. */
function usualWork({ prompt, decode, decodeAlone }: TuningSpeed): number {
  return 1000 * (PROMPT_TOKENS / prompt + (ANSWERS * NEW_TOKENS) / decode + NEW_TOKENS / decodeAlone);
}

async function measure(engine: InferenceEngine, signal: AbortSignal | undefined): Promise<TuningSpeed> {
  const best: TuningSpeed = { prompt: 0, decode: 0, decodeAlone: 0 };
  for (let run = 0; run <= RUNS; run++) {
    throwIfAborted(signal);
    const alone = await answer(engine, 1, PROMPT_TOKENS);
    const together = await answer(engine, ANSWERS, NEW_TOKENS);
    // The first run fills caches of the processor.
    if (run === 0) continue;
    best.prompt = Math.max(best.prompt, alone.prompt);
    best.decodeAlone = Math.max(best.decodeAlone, alone.decode);
    best.decode = Math.max(best.decode, together.decode);
  }
  return best;
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

function describeTrial({ tuning, speed }: TuningTrial): string {
  const settings = Object.entries(tuning).map(([name, value]) => `${name} ${value}`);
  const [prompt, decode, alone] = [speed.prompt, speed.decode, speed.decodeAlone].map((rate) => rate.toFixed(0));
  return `${settings.join(', ')}: prompt ${prompt}, decode ${decode}, alone ${alone} tokens/s`;
}

/** The model with and without extra buffer types (weights repacked for the processor), each loaded when it is first needed. */
class LoadedModels {
  readonly #options: LanguageModelOptions;
  readonly #loaded = new Map<boolean, LanguageModel>();

  constructor(options: LanguageModelOptions) {
    this.#options = options;
  }

  async of(extraBuffers: boolean): Promise<LanguageModel> {
    const loaded = this.#loaded.get(extraBuffers) ?? (await LanguageModel.load({ ...this.#options, extraBuffers }));
    this.#loaded.set(extraBuffers, loaded);
    return loaded;
  }

  async dispose(): Promise<void> {
    for (const model of this.#loaded.values()) await model.dispose();
  }
}
