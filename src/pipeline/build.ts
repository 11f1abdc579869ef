import { readFile, rm } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import type { Cartridge } from '../cartridge/cartridge.js';
import { writeCartridge } from '../cartridge/cartridge-file.js';
import { CartridgesError, type ErrorCode } from '../core/errors.js';
import { assertWritable, writeJsonAtomic } from '../core/files.js';
import { sha256, sha256Json } from '../core/hashing.js';
import { packageVersion } from '../core/package.js';
import type { RunOptions } from '../core/progress.js';
import { inWorkFolder } from '../core/work-folder.js';
import type { SynthesisReport } from '../self-study/synthesize.js';
import type { TokenizedCorpus } from './corpus-source.js';
import { prepareInitialRows } from './initial-rows.js';
import type { ModelSession } from './model-session.js';
import { affordableConversations, planSynthesis, planTokenCount, type SynthesisPlan, synthesisShare } from './plan.js';
import type { Settings } from './settings.js';
import { adviseTuning, type SynthesizeDatasetOptions, synthesizeDataset } from './synthesize.js';
import { TimeLimit } from './time-limit.js';
import { synthesizeWithin } from './timed-synthesis.js';
import { measureTraining, type TrainCartridgeOptions, type TrainedCartridge, trainCartridge } from './train.js';

export interface BuildOptions extends RunOptions {
  session: ModelSession;
  corpus: TokenizedCorpus;
  settings: Settings;
  /** The cartridge is written here. */
  output: string;
  /**
   * When the time limit began, as `performance.now()` gave it: what was loaded before this call counts then too. The call itself
   * by default.
   */
  startedAt?: number;
}

/** What `cartridges build --json` prints. */
export interface BuildResult {
  path: string;
  /** Rows of the cartridge. */
  tokens: number;
  /** Conversations that passed the filters. */
  conversations: number;
  /** Of the dataset, each counted once. */
  supervisedTokens: number;
  steps: number;
  /** KL divergence from the teacher on held-out conversations, nats a token; null when none were held out. */
  validationKl: number | null;
  seconds: { synthesize: number; train: number; total: number };
}

export interface Build {
  result: BuildResult;
  cartridge: Cartridge;
}

/**
 * From a corpus to a cartridge file: self-study, distillation, writing. The work lies in folders whose names follow from everything
 * that the result depends on, so the same call continues what an interrupted one has finished.
 */
export async function buildCartridge(options: BuildOptions): Promise<Build> {
  const { session, corpus, output, startedAt = performance.now() } = options;
  const settings = withTokenCount(options);
  await prepareInitialRows(session, corpus.text, settings, settings.training.tokens);
  await assertWritable(output);
  const build = { ...options, settings, startedAt };
  const folders = foldersOf(build);
  return inWorkFolder(folders.run, () => buildIn(folders, build));
}

async function buildIn(folders: BuildFolders, options: BuildOptions & { startedAt: number }): Promise<Build> {
  const { session, corpus, settings, output, startedAt } = options;
  const run = {
    ...(options.onProgress && { onProgress: options.onProgress }),
    ...(options.signal && { signal: options.signal }),
  };
  const limit = timeLimit(settings, startedAt);

  // Before the speed is measured that the plan follows from.
  await adviseTuning({ session, folder: folders.dataset, ...run });
  const plan = await fitSynthesis(options, folders.run, limit);
  const synthesisStarted = performance.now();
  await makeConversations({ session, corpus, settings, folder: folders.dataset, plan, ...run }, folders.run, limit).catch(
    (thrown) =>
      rethrowWithHint(thrown, {
        SETTINGS_CHANGED: `delete ${folders.dataset}, and the same command makes the conversations anew`,
      }),
  );
  const synthesize = secondsSince(synthesisStarted);

  const trainingStarted = performance.now();
  const trained = await trainToFile(output, {
    session,
    corpus,
    settings,
    dataset: folders.dataset,
    folder: folders.training,
    resume: true,
    ...trainingLimit(limit),
    ...run,
  }).catch((thrown) => rethrowWithHint(thrown, trainingHints(folders)));
  const seconds = { synthesize, train: secondsSince(trainingStarted), total: secondsSince(startedAt) };
  return { result: toResult(output, trained, seconds), cartridge: trained.cartridge };
}

export interface TrainAndWriteOptions extends BuildOptions {
  /** Folder or Parquet file of conversations. */
  dataset: string;
  /** Continue the stopped run of the same output. */
  resume: boolean;
}

/** The second half of a build, on a dataset that is there already. */
export async function trainAndWrite(options: TrainAndWriteOptions): Promise<BuildResult> {
  const { output, startedAt = performance.now() } = options;
  const settings = withTokenCount(options);
  await assertWritable(output);
  // Files of one name in two places are two runs.
  const folder = join(settings.outputFolder, `${nameOf(output)}-${sha256(resolve(output)).slice(0, 10)}`);
  const trainingStarted = performance.now();
  const maxSeconds = trainingLimit(timeLimit(settings, startedAt));
  const trained = await trainToFile(output, { ...options, settings, folder, ...maxSeconds });
  const seconds = { synthesize: 0, train: secondsSince(trainingStarted), total: secondsSince(startedAt) };
  return toResult(output, trained, seconds);
}

function secondsSince(time: number): number {
  return (performance.now() - time) / 1000;
}

function timeLimit({ minutes }: Settings, startedAt: number): TimeLimit | undefined {
  return minutes === undefined ? undefined : new TimeLimit(minutes, startedAt);
}

/** Even when nothing is left a step is made: without one there is no cartridge. */
function trainingLimit(limit: TimeLimit | undefined): { maxSeconds?: number } {
  return limit === undefined ? {} : { maxSeconds: Math.max(1, limit.secondsLeft) };
}

/** What training's errors advise is for `train`, which has a flag `--resume`; a build always resumes, in folders of its own. */
function trainingHints({ training }: BuildFolders): Partial<Record<ErrorCode, string>> {
  return {
    NON_FINITE_LOSS: 'the conversations are kept: the same command with a lower training.learningRate trains on them',
    SETTINGS_CHANGED: `the conversations are kept: delete ${training}, and the same command trains on them anew`,
    ENGINE_FAILURE:
      'the last checkpoint is kept: the same command continues from it; training.step=graph trains without threads of its own',
  };
}

function rethrowWithHint(thrown: unknown, hints: Partial<Record<ErrorCode, string>>): never {
  if (!CartridgesError.is(thrown) || hints[thrown.code] === undefined) throw thrown;
  throw new CartridgesError(thrown.code, thrown.message, { hint: hints[thrown.code], cause: thrown });
}

/** The settings with the number of rows that text and model come to, so that no later stage has to find it again. */
function withTokenCount({ session, corpus, settings }: BuildOptions) {
  const { config, framing } = session;
  const tokens = planTokenCount(corpus.tokens, settings, config.contextLength, framing.systemFrameTokens);
  return { ...settings, training: { ...settings.training, tokens } };
}

/** The checkpoint goes only when the cartridge is on disk: a full disk must not cost the training. */
async function trainToFile(output: string, options: TrainCartridgeOptions): Promise<TrainedCartridge> {
  const trained = await trainCartridge(options);
  await writeCartridge(output, trained.cartridge, { dtype: options.settings.cartridgeType });
  await trained.discardCheckpoint();
  return trained;
}

function toResult(output: string, trained: TrainedCartridge, seconds: BuildResult['seconds']): BuildResult {
  const { result, cartridge, conversations, supervisedTokens } = trained;
  return {
    path: output,
    tokens: cartridge.tokenCount,
    conversations,
    supervisedTokens,
    steps: result.steps,
    validationKl: Number.isNaN(result.validationKl) ? null : result.validationKl,
    seconds,
  };
}

interface BuildFolders {
  run: string;
  dataset: string;
  training: string;
}

/**
 * The run folder is named by what self-study depends on, and in it that of a training by what that depends on besides: conversations
 * are made once for all trainings on them.
 */
function foldersOf({ session, corpus, settings, output }: BuildOptions): BuildFolders {
  const { outputFolder, seed, device, threads, minutes, synthesis } = settings;
  const study = sha256Json({
    settings: { seed, device, threads, minutes, synthesis },
    corpus: corpus.contentHash,
    model: session.fingerprint,
    version: packageVersion(),
  });
  // More memory does not make another cartridge: a build that had too little goes on.
  const training = sha256Json({ ...settings.training, memory: undefined });
  const run = join(outputFolder, `${nameOf(output)}-${study.slice(0, 10)}`);
  return { run, dataset: join(run, 'dataset'), training: join(run, `training-${training.slice(0, 10)}`) };
}

function nameOf(output: string): string {
  return basename(output).replace(/\.safetensors$/, '');
}

/** What the run folder keeps of self-study under a time limit. */
interface FittedSynthesis extends SynthesisPlan {
  /** Of the time, what self-study may take. */
  timeShare?: number;
  /** Conversations after which its time was over: the dataset is what there is, in a continued build too. */
  stoppedAt?: number;
}

const planPath = (folder: string) => join(folder, 'plan.json');

/** Self-study, which ends with the group in which its share of the time is over. */
async function makeConversations(
  options: SynthesizeDatasetOptions & { plan: FittedSynthesis },
  folder: string,
  limit: TimeLimit | undefined,
): Promise<void> {
  const { plan } = options;
  if (plan.stoppedAt !== undefined) return;
  if (limit === undefined || plan.timeShare === undefined) {
    await synthesizeDataset(options);
    return;
  }
  const { attempted } = await synthesizeWithin(limit.secondsLeft * plan.timeShare, options);
  if (attempted < plan.conversations) await writeJsonAtomic(planPath(folder), { ...plan, stoppedAt: attempted });
}

/**
 * With a time limit the number of conversations must follow from the machine's speed: one group is made and timed, and a few packs
 * of it are trained on. The number is kept in the run folder, so that a continued build plans the same.
 */
async function fitSynthesis(options: BuildOptions, folder: string, limit: TimeLimit | undefined): Promise<FittedSynthesis> {
  const { session, corpus, settings } = options;
  const plan = planSynthesis(corpus.tokens, settings, session.recommendations);
  const { concurrency } = settings.synthesis;
  // A group is the least that can be made, so there is nothing to fit.
  if (limit === undefined || plan.conversations <= concurrency) return plan;
  const kept = await readFile(planPath(folder), 'utf8').catch(() => undefined);
  if (kept !== undefined) return JSON.parse(kept);
  const probeFolder = join(folder, 'speed-probe');
  // A probe that an interrupted call has finished would take no time at all.
  await rm(probeFolder, { recursive: true, force: true });
  const message = `measuring the speed on ${concurrency} conversations`;
  options.onProgress?.({ kind: 'note', stage: 'synthesize', message });
  // Its own progress would look like that of the build.
  const quiet = { session, corpus, settings, ...(options.signal && { signal: options.signal }) };
  const probePlan = { ...plan, conversations: concurrency };
  const probe: SynthesisReport = await synthesizeDataset({ ...quiet, folder: probeFolder, plan: probePlan });
  // A group that was filtered out whole has nothing to train on.
  const secondsPerToken = probe.kept > 0 ? await measureTraining({ ...quiet, dataset: probeFolder }) : undefined;
  const speed = {
    secondsPerConversation: probe.seconds / concurrency,
    tokensPerConversation: probe.answerTokens / concurrency,
    secondsPerToken,
  };
  const { secondsLeft } = limit;
  const conversations = Math.max(concurrency, affordableConversations(secondsLeft, plan.conversations, speed));
  const fitted = { ...plan, conversations, timeShare: synthesisShare(secondsLeft, conversations, speed) };
  await writeJsonAtomic(planPath(folder), fitted);
  return fitted;
}
