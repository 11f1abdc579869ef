import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Cartridge } from '../cartridge/cartridge.js';
import { CartridgesError } from '../core/errors.js';
import { packageVersion } from '../core/package.js';
import type { RunOptions } from '../core/progress.js';
import { Random } from '../core/random.js';
import { inWorkFolder } from '../core/work-folder.js';
import type { Conversation } from '../self-study/conversation.js';
import { loadConversations, openDataset } from '../self-study/dataset/open-dataset.js';
import { RunDirectory } from '../tracking/run-directory.js';
import { CheckpointFile } from '../training/checkpoint.js';
import { makeExamples, type TrainingExample } from '../training/examples.js';
import { fillPack } from '../training/fill-pack.js';
import type { PackShape } from '../training/pack.js';
import { dealIntoPacks, filledShare, type PackContents } from '../training/pack-contents.js';
import { packExamples, packShapes } from '../training/packing.js';
import { type TrainResult, type TrainSettings, train } from '../training/train.js';
import type { TrainingStep } from '../training/training-step.js';
import type { TokenizedCorpus } from './corpus-source.js';
import { createFittingStep, describeShape } from './fitting-step.js';
import { type InitialRows, prepareInitialRows } from './initial-rows.js';
import { KeptPlanFile } from './kept-plan.js';
import { affordableLoop, type LoopPlan, timePacks, timeValidation, wantedLoop } from './loop-plan.js';
import type { ModelSession } from './model-session.js';
import { planTokenCount, planTraining, type TrainingPlan, trainSettings } from './plan.js';
import type { Settings } from './settings.js';
import { chooseTrainingStep, type StepChoice } from './training-step-choice.js';

/** A dataset, and what is trained on it. */
export interface TrainingSource extends RunOptions {
  session: ModelSession;
  corpus: TokenizedCorpus;
  settings: Settings;
  /** Folder or Parquet file of conversations with log-probs. */
  dataset: string;
}

export interface TrainCartridgeOptions extends TrainingSource {
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
  /** Removes the checkpoint and the plan: to be called when the cartridge is on disk, since until then it is all that there is. */
  discardCheckpoint(): Promise<void>;
}

/** Tokens of a pack when nothing else is said: enough to keep the products large, little enough for a laptop. */
const PACK_TOKENS = 256;
/** Conversations beyond this length are cut. */
const MAX_CONVERSATION_TOKENS = 2_048;
const MAX_VALIDATION_CONVERSATIONS = 64;

/**
 * Trains a cartridge on a dataset: frames and packs the conversations, starts from the chosen initializer, runs the train loop
 * and returns the rows with the lowest validation divergence, with a receipt.
 *
 * Throws `INVALID_DATASET`, `CONTEXT_OVERFLOW` for a cartridge beyond the model's context, `SETTINGS_CHANGED` when a checkpoint
 * of other settings shall be resumed, `INVALID_OPTION` while another process trains in the folder, and what `train` throws.
 */
export async function trainCartridge(options: TrainCartridgeOptions): Promise<TrainedCartridge> {
  const started = performance.now();
  const loaded = await loadTrainingData(options);
  return inWorkFolder(options.folder, () => trainOn(loaded, options, started));
}

async function trainOn(loaded: LoadedData, options: TrainCartridgeOptions, started: number): Promise<TrainedCartridge> {
  const { session, settings, folder } = options;
  const choice = await chooseTrainingStep(session.backend, session.config, settings, options);
  const checkpointPath = join(folder, 'checkpoint.safetensors');
  const planFile = new KeptPlanFile(join(folder, 'plan.json'), describeRun(options, loaded));
  const kept = options.resume ? await planFile.read(existsSync(checkpointPath)) : undefined;
  const shapes = kept ? ([kept.shape] as const) : loaded.shapes;
  const { step, shape } = await createFittingStep({ ...options, ...loaded, shapes, choice });
  try {
    const data = { ...loaded, shape, dealt: dealIntoPacks(loaded.training, shape, new Random(settings.seed)) };
    const time = options.maxSeconds === undefined ? undefined : await timeOf(step, data, started + options.maxSeconds * 1000);
    const planned = kept ?? (await planLoop(data, step, time));
    if (!kept) await planFile.write({ ...planned, shape });
    const loop = trainSettings(data.plan, planned, planned.packsPerStep * supervisedTokensOfPack(data), settings);
    const plan = { loop, computation: describeComputation(choice, step, session, settings) };
    const identity = { ...describeRun(options, data), loop, shape, ...plan.computation };
    const checkpoints = new CheckpointFile(checkpointPath, identity);
    const deadline = time && time.endsAt - time.validationMilliseconds;
    const result = await runLoop(options, data, step, { ...plan, ...(deadline && { deadline }) }, started, checkpoints);
    const { training, validation, supervisedTokens } = data;
    const conversations = training.length + validation.length;
    const cartridge = toCartridge(options, data, plan, result);
    // The checkpoint first: a plan alone does no harm, a checkpoint alone could not be continued.
    const discardCheckpoint = () => checkpoints.remove().then(() => planFile.remove());
    return { cartridge, result, conversations, supervisedTokens, discardCheckpoint };
  } finally {
    step.dispose();
  }
}

/**
 * Seconds of training for each supervised token, measured on a few packs of a dataset. Throws as {@link trainCartridge} does where
 * nothing can be trained on it.
 */
export async function measureTraining(options: TrainingSource): Promise<number> {
  const loaded = await loadTrainingData(options);
  const { session, settings } = options;
  const choice = await chooseTrainingStep(session.backend, session.config, settings);
  const { step, shape } = await createFittingStep({ ...options, ...loaded, choice });
  try {
    const data = { ...loaded, shape, dealt: dealIntoPacks(loaded.training, shape, new Random(settings.seed)) };
    const { packsPerStep } = wantedLoop(data.plan, supervisedTokensOfPack(data));
    const milliseconds = await measureStep(step, data, packsPerStep);
    return milliseconds / (packsPerStep * supervisedTokensOfPack(data)) / 1000;
  } finally {
    step.dispose();
  }
}

interface LoadedData {
  tokenCount: number;
  contentHash: string;
  training: TrainingExample[];
  validation: TrainingExample[];
  /** Of the training part. */
  supervisedTokens: number;
  initialRows: InitialRows;
  plan: TrainingPlan;
  /** The wanted one first. */
  shapes: [PackShape, ...PackShape[]];
}

interface TrainingData extends LoadedData {
  shape: PackShape;
  /** The training part as packs of that shape, as an epoch has them. */
  dealt: PackContents[];
}

async function loadTrainingData(options: TrainingSource): Promise<LoadedData> {
  const { session, corpus, settings, signal } = options;
  const tokenCount = planTokenCount(corpus.tokens, settings, session.config.contextLength, session.framing.systemFrameTokens);
  const initialRows = await prepareInitialRows(session, corpus.text, settings, tokenCount);
  const dataset = await openDataset(options.dataset, signal);
  const { training, validation } = splitExamples(await loadConversations(dataset, signal), tokenCount, options);
  const supervisedTokens = training.reduce((sum, example) => sum + example.rows.length, 0);
  const packTokens = settings.training.packTokens ?? session.recommendations.packTokens ?? PACK_TOKENS;
  return {
    tokenCount,
    contentHash: dataset.contentHash,
    training,
    validation,
    supervisedTokens,
    initialRows,
    plan: planTraining(supervisedTokens, settings, session.recommendations),
    shapes: packShapes([...training, ...validation], packTokens),
  };
}

/** The end of the time, as `performance.now` gives it, and what of it the last validation needs. */
interface TrainingTime {
  endsAt: number;
  validationMilliseconds: number;
}

async function timeOf(step: TrainingStep, { validation, shape }: TrainingData, endsAt: number): Promise<TrainingTime> {
  const packs = packExamples(validation, shape);
  // As many as tell what all take.
  const timed = packs.slice(0, 2 * step.lanes);
  if (timed.length === 0) return { endsAt, validationMilliseconds: 0 };
  return { endsAt, validationMilliseconds: ((await timeValidation(step, timed)) * packs.length) / timed.length };
}

async function planLoop(data: TrainingData, step: TrainingStep, time: TrainingTime | undefined): Promise<LoopPlan> {
  const wanted = wantedLoop(data.plan, supervisedTokensOfPack(data));
  if (time === undefined) return wanted;
  return affordableLoop(wanted, () => time.endsAt - performance.now(), {
    stepOf: (packsPerStep) => measureStep(step, data, packsPerStep),
    validation: time.validationMilliseconds,
  });
}

function supervisedTokensOfPack({ supervisedTokens, dealt }: TrainingData): number {
  return supervisedTokens / dealt.length;
}

/** Milliseconds of a step of so many packs. Two for each lane tell what more of them take. */
async function measureStep(step: TrainingStep, { dealt, shape }: TrainingData, packsPerStep: number): Promise<number> {
  const count = Math.min(packsPerStep, 2 * step.lanes);
  // A dataset that has fewer gives its own again.
  const packs = Array.from({ length: count }, (_, index) => fillPack(dealt[index % dealt.length]!, shape));
  return ((await timePacks(step, packs)) * packsPerStep) / count;
}

async function runLoop(
  options: TrainCartridgeOptions,
  data: TrainingData,
  step: TrainingStep,
  { loop, computation, deadline }: RunPlan & { deadline?: number },
  started: number,
  checkpoints: CheckpointFile,
): Promise<TrainResult> {
  const { settings, folder, onProgress } = options;
  const { training, validation, shape, tokenCount } = data;
  const fill = filledShare(data.dealt, shape);
  if (!options.resume && existsSync(checkpoints.path)) {
    const message = `${checkpoints.path} of a run that was stopped is given up: --resume would have continued it`;
    onProgress?.({ kind: 'warning', stage: 'train', message });
    await checkpoints.remove();
  }
  const tracker = await RunDirectory.create(folder, { ...settings, plan: { tokenCount, shape, fill, ...loop, ...computation } });
  const packs = `${loop.packsPerStep} packs of ${describeShape(shape)}, ${(fill * 100).toFixed(0)} % filled`;
  const message = `${tokenCount} rows, ${loop.steps} steps of ${packs}`;
  onProgress?.({ kind: 'start', stage: 'train', message, total: loop.steps });
  const input = { step, shape, training, validation, settings: loop, checkpoints, tracker, ...(deadline && { deadline }) };
  const result = await train(input, options).catch(async (error) => {
    // Why the run ended says more than what its metrics may have run into.
    await tracker.close().catch(() => undefined);
    throw error;
  });
  const seconds = (performance.now() - started) / 1000;
  await tracker.finish({ steps: result.steps, bestStep: result.bestStep, validationKl: result.validationKl, seconds });
  onProgress?.({ kind: 'end', stage: 'train', message: describeResult(result), seconds });
  return result;
}

/** Everything that must be the same for a run to be continued to the same result, before it is planned. */
function describeRun({ session, settings }: TrainCartridgeOptions, data: LoadedData): Record<string, unknown> {
  // Another limit of memory changes no result.
  const { memory: _, ...training } = settings.training;
  const named = Object.entries({ ...training, tokens: data.tokenCount }).map(([name, value]) => [`training.${name}`, value]);
  return {
    dataset: data.contentHash,
    model: session.fingerprint.weightsHash,
    framing: session.framing.hash,
    seed: settings.seed,
    ...Object.fromEntries(named),
  };
}

/** How the steps of a run are computed: what another rounding would come from. */
interface Computation {
  step: StepChoice['step'];
  /** Packs side by side: their gradients are added up in that order. */
  lanes: number;
  weights: string;
  /** With the release, where it is not that of the engine. */
  products?: string;
}

interface RunPlan {
  loop: TrainSettings;
  computation: Computation;
}

function describeComputation(
  choice: StepChoice,
  { lanes }: TrainingStep,
  { profile }: ModelSession,
  { training: { weightType } }: Settings,
): Computation {
  if (choice.step === 'graph')
    return { step: 'graph', lanes, weights: weightType === 'auto' ? profile!.chosen.name : weightType };
  const { products, productsVersion, weightType: weights } = choice;
  const library = productsVersion === undefined ? products.provider : `${products.provider} ${productsVersion}`;
  return { step: 'replica', lanes, weights, products: library };
}

function toCartridge(options: TrainCartridgeOptions, data: TrainingData, plan: RunPlan, result: TrainResult): Cartridge {
  const { session, corpus, settings } = options;
  const { best, steps, bestStep, validationKl, supervisedTokens } = result;
  return {
    model: session.fingerprint,
    framing: { name: session.framing.name, hash: session.framing.hash },
    tokenCount: data.tokenCount,
    frozenCount: settings.training.frozenTokens,
    keys: best.keys,
    values: best.values,
    receipt: {
      createdBy: `cartridges ${packageVersion()}`,
      createdAt: new Date().toISOString(),
      initializer: settings.training.initializer,
      ...(data.initialRows.parent && { parents: [data.initialRows.parent] }),
      corpus: { name: corpus.name, tokens: corpus.tokens, contentHash: corpus.contentHash },
      dataset: { contentHash: data.contentHash, conversations: data.training.length, validation: data.validation.length },
      training: { ...plan.loop, ...plan.computation, loss: settings.training.loss, supervisedTokens },
      result: { steps, bestStep, validationKl: Number.isNaN(validationKl) ? null : validationKl },
    },
  };
}

function splitExamples(conversations: Conversation[], tokenCount: number, { session, settings, onProgress }: TrainingSource) {
  const { config, framing } = session;
  const { examples, unsupervised, cut } = makeExamples(conversations, framing, {
    targets: settings.training.loss === 'next-token' ? 'next-token' : 'distillation',
    // They stand behind the cartridge's rows.
    maxTokens: Math.min(MAX_CONVERSATION_TOKENS, config.contextLength - tokenCount),
    vocabularySize: config.vocabularySize,
  });
  if (unsupervised + cut > 0) {
    const message = `${unsupervised} conversations have nothing to learn from and are left out, ${cut} were cut`;
    onProgress?.({ kind: 'warning', stage: 'train', message });
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

function describeResult({ steps, bestStep, validationKl, stoppedBy }: TrainResult): string {
  const kl = Number.isNaN(validationKl) ? 'not validated' : `validation KL ${validationKl.toFixed(4)} at step ${bestStep}`;
  return `${steps} steps${stoppedBy === 'deadline' ? ' (time limit)' : ''}, ${kl}`;
}
