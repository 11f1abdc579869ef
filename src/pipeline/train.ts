import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Cartridge } from '../cartridge/cartridge.js';
import { readCartridge } from '../cartridge/cartridge-file.js';
import { assertUsableWith } from '../cartridge/fingerprint.js';
import { initializeRows } from '../cartridge/initializers/initialize.js';
import { CartridgesError, toCartridgesError } from '../core/errors.js';
import { packageVersion } from '../core/package.js';
import type { RunOptions } from '../core/progress.js';
import { Random } from '../core/random.js';
import type { Conversation } from '../self-study/conversation.js';
import { loadConversations, openDataset } from '../self-study/dataset/open-dataset.js';
import { RunDirectory } from '../tracking/run-directory.js';
import { CheckpointFile } from '../training/checkpoint.js';
import { makeExamples, type TrainingExample } from '../training/examples.js';
import { GraphStep } from '../training/graph-step.js';
import { choosePackShape, packExamples } from '../training/packing.js';
import { type TrainResult, train } from '../training/train.js';
import type { TokenizedCorpus } from './corpus-source.js';
import type { ModelSession } from './model-session.js';
import { defaultTokenCount, planTraining, trainSettings } from './plan.js';
import type { Settings } from './settings.js';

export interface TrainCartridgeOptions extends RunOptions {
  session: ModelSession;
  corpus: TokenizedCorpus;
  settings: Settings;
  /** Folder or Parquet file of conversations with log-probs. */
  dataset: string;
  /** Run folder: metrics, and the checkpoint that a stopped run continues from. */
  folder: string;
  /** Continue the checkpoint in `folder`; without it a checkpoint there is written over. */
  resume?: boolean;
  /** Seconds that training may take; fewer steps are made when the measured speed asks for it. */
  maxSeconds?: number;
}

export interface TrainedCartridge {
  cartridge: Cartridge;
  result: TrainResult;
  conversations: number;
  /** In the training part of the dataset, each counted once. */
  supervisedTokens: number;
}

/** Tokens that run together when nothing else is said: enough to keep the products large, little enough for a laptop. */
const PACK_TOKENS = 512;
/** Conversations beyond this length are cut. */
const MAX_CONVERSATION_TOKENS = 2_048;
const MAX_VALIDATION_CONVERSATIONS = 64;

/**
 * Trains a cartridge on a dataset: frames and packs the conversations, starts from the chosen initializer, runs the train loop
 * and returns the rows with the lowest validation divergence, with a receipt.
 */
export async function trainCartridge(options: TrainCartridgeOptions): Promise<TrainedCartridge> {
  const { session, corpus, settings, folder } = options;
  const run: RunOptions = {
    ...(options.onProgress && { onProgress: options.onProgress }),
    ...(options.signal && { signal: options.signal }),
  };
  const started = performance.now();
  const tokenCount = settings.training.tokens ?? defaultTokenCount(corpus.tokens);
  checkTokenCount(tokenCount, settings, session);
  const dataset = await openDataset(options.dataset, options.signal);
  const { training, validation } = splitExamples(await loadConversations(dataset, options.signal), session, settings, run);
  const supervisedTokens = countSupervised(training);
  const plan = planTraining(supervisedTokens, settings, session.recommendations);
  const shape = choosePackShape([...training, ...validation], settings.training.packTokens ?? PACK_TOKENS);
  const student = await session.student(settings.training.weightType, run);
  const initial = await initialRows(options, student, tokenCount, run);
  const step = new GraphStep(student, {
    shape,
    keys: initial.keys,
    values: initial.values,
    frozenCount: Math.min(settings.training.frozenTokens, tokenCount),
    loss: settings.training.loss === 'entry-mean' ? 'entry-mean' : 'token-mean',
    gradientClip: settings.training.gradientClip,
  });
  run.onProgress?.({ kind: 'note', stage: 'train', message: `memory planned ${step.plan.description}` });
  try {
    const packs = packExamples(training, shape, new Random(settings.seed));
    const packsPerStep = Math.max(1, Math.round(plan.batchTokens / (supervisedTokens / packs.length)));
    const steps = await affordableSteps(step, packs, packsPerStep, plan.steps, options.maxSeconds, started);
    const loop = trainSettings({ ...plan, steps }, packsPerStep, settings);
    const identity = {
      dataset: dataset.contentHash,
      model: session.fingerprint.weightsHash,
      framing: session.framing.hash,
      settings: { ...settings.training, tokens: tokenCount },
      loop,
      shape,
      weights: session.profile?.chosen.name ?? settings.training.weightType,
    };
    const checkpoints = new CheckpointFile(join(folder, 'checkpoint.safetensors'), identity);
    if (!options.resume) await checkpoints.remove();
    const tracker = await RunDirectory.create(folder, { ...settings, plan: { tokenCount, ...plan, steps, packsPerStep, shape } });
    const totals = `${loop.steps} steps of about ${plan.batchTokens} supervised tokens, ${tokenCount} rows`;
    run.onProgress?.({ kind: 'start', stage: 'train', message: totals, total: loop.steps });
    const deadline = options.maxSeconds === undefined ? undefined : started + options.maxSeconds * 1000;
    const result = await train(
      { step, shape, training, validation, settings: loop, checkpoints, tracker, ...(deadline !== undefined && { deadline }) },
      run,
    );
    const seconds = (performance.now() - started) / 1000;
    await tracker.finish({ steps: result.steps, bestStep: result.bestStep, validationKl: result.validationKl, seconds });
    await checkpoints.remove();
    run.onProgress?.({ kind: 'end', stage: 'train', message: describeResult(result), seconds });
    const cartridge: Cartridge = {
      model: session.fingerprint,
      framing: { name: session.framing.name, hash: session.framing.hash },
      tokenCount,
      frozenCount: Math.min(settings.training.frozenTokens, tokenCount),
      keys: result.best.keys,
      values: result.best.values,
      receipt: {
        createdBy: `cartridges ${packageVersion()}`,
        createdAt: new Date().toISOString(),
        initializer: settings.training.initializer,
        corpus: { name: corpus.name, tokens: corpus.tokens, contentHash: corpus.contentHash },
        dataset: { contentHash: dataset.contentHash, conversations: training.length, validation: validation.length },
        training: { ...loop, loss: settings.training.loss, supervisedTokens: result.supervisedTokens, weights: identity.weights },
        result: { steps: result.steps, bestStep: result.bestStep, validationKl: result.validationKl },
      },
    };
    return { cartridge, result, conversations: training.length + validation.length, supervisedTokens };
  } finally {
    step.dispose();
  }
}

function splitExamples(conversations: Conversation[], session: ModelSession, settings: Settings, run: RunOptions) {
  const { config, framing } = session;
  const { examples, unsupervised, cut } = makeExamples(conversations, framing, {
    targets: settings.training.loss === 'next-token' ? 'next-token' : 'distillation',
    maxTokens: Math.min(MAX_CONVERSATION_TOKENS, config.contextLength),
    vocabularySize: config.vocabularySize,
  });
  if (unsupervised + cut > 0) {
    const message = `${unsupervised} conversations have nothing to learn from and are left out, ${cut} were cut`;
    run.onProgress?.({ kind: 'warning', stage: 'train', message });
  }
  const shuffled = new Random(settings.seed).fork('validation').shuffle(examples);
  const wanted = Math.round(examples.length * settings.training.validationShare);
  const held = Math.min(MAX_VALIDATION_CONVERSATIONS, wanted);
  const [validation, training] = [shuffled.slice(0, held), shuffled.slice(held)];
  if (training.length > 0) return { training, validation };
  throw new CartridgesError('INVALID_DATASET', 'the dataset has no conversation to train on', {
    hint: 'synthesize more conversations, or look at what was filtered out in its manifest.json',
  });
}

async function initialRows(
  options: TrainCartridgeOptions,
  model: Awaited<ReturnType<ModelSession['student']>>,
  tokenCount: number,
  run: RunOptions,
) {
  const { session, corpus, settings } = options;
  const { initializer, initializerText, initializerCartridge } = settings.training;
  let rows: Cartridge | undefined;
  if (initializer === 'cartridge') {
    if (!initializerCartridge) throw new CartridgesError('INVALID_OPTION', 'training.initializerCartridge names no file');
    rows = await readCartridge(initializerCartridge);
    assertUsableWith(rows, session.fingerprint, { allowQuantization: false });
  }
  const text =
    initializerText === undefined
      ? undefined
      : await readFile(initializerText, 'utf8').catch((error) => Promise.reject(toCartridgesError(error)));
  return initializeRows(
    {
      name: initializer,
      model,
      framing: session.framing,
      tokenizer: session.tokenizer,
      corpusText: corpus.text,
      tokenCount,
      random: new Random(settings.seed).fork('initializer'),
      ...(text !== undefined && { text }),
      ...(rows && { rows }),
    },
    run,
  );
}

/** With a time limit the speed is measured on a few packs first: the schedule must know how many steps there will be. */
async function affordableSteps(
  step: GraphStep,
  packs: ReturnType<typeof packExamples>,
  packsPerStep: number,
  wantedSteps: number,
  maxSeconds: number | undefined,
  started: number,
): Promise<number> {
  if (maxSeconds === undefined) return wantedSteps;
  const MEASURED_PACKS = 3;
  const before = performance.now();
  for (let index = 0; index < MEASURED_PACKS; index++) await step.accumulate(packs[index % packs.length]!);
  step.restore(step.state());
  const secondsPerPack = (performance.now() - before) / 1000 / MEASURED_PACKS;
  const left = maxSeconds - (performance.now() - started) / 1000;
  // A share is kept for validation and for the machine being slower later.
  const affordable = Math.floor((left * 0.85) / (secondsPerPack * packsPerStep));
  return Math.max(1, Math.min(wantedSteps, affordable));
}

function checkTokenCount(tokenCount: number, settings: Settings, session: ModelSession): void {
  const { frozenTokens } = settings.training;
  if (frozenTokens >= tokenCount) {
    throw new CartridgesError(
      'INVALID_OPTION',
      `${frozenTokens} frozen rows leave nothing to train in a cartridge of ${tokenCount}`,
    );
  }
  const { contextLength } = session.config;
  if (tokenCount < contextLength) return;
  throw new CartridgesError(
    'CONTEXT_OVERFLOW',
    `a cartridge of ${tokenCount} tokens leaves no room in a context of ${contextLength}`,
    {
      hint: `use --tokens below ${contextLength}`,
    },
  );
}

function countSupervised(examples: readonly TrainingExample[]): number {
  return examples.reduce((sum, example) => sum + example.rows.length, 0);
}

function describeResult({ steps, bestStep, validationKl, stoppedBy }: TrainResult): string {
  const kl = Number.isNaN(validationKl) ? 'not validated' : `validation KL ${validationKl.toFixed(4)} at step ${bestStep}`;
  return `${steps} steps${stoppedBy === 'deadline' ? ' (time limit)' : ''}, ${kl}`;
}
