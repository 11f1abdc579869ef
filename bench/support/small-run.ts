import { join } from 'node:path';
import { packageRoot } from '../../src/core/package.js';
import { EXACT_WEIGHTS, FrozenModel } from '../../src/models/frozen-model.js';
import { loadCorpus, type TokenizedCorpus } from '../../src/pipeline/corpus-source.js';
import { prepareInitialRows } from '../../src/pipeline/initial-rows.js';
import { ModelSession } from '../../src/pipeline/model-session.js';
import { planTokenCount } from '../../src/pipeline/plan.js';
import { resolveSettings } from '../../src/pipeline/resolve-settings.js';
import type { Settings, SettingsInput } from '../../src/pipeline/settings.js';
import { synthesizeDataset } from '../../src/pipeline/synthesize.js';
import { trainCartridge } from '../../src/pipeline/train.js';
import { loadConversations, openDataset } from '../../src/self-study/dataset/open-dataset.js';
import { makeExamples } from '../../src/training/examples.js';
import { choosePackShape, packExamples } from '../../src/training/packing.js';
import type { StepSubject } from './step-outcome.js';

const SOURCE = join(packageRoot, 'examples', 'corpora', 'harbour');
const SUBJECT_LEARNING_RATE = 2e-3;

/** A model with settings that make self-study and training of a sample text short. */
export interface SmallRun {
  name: string;
  model: string;
  threads: number;
  settings: SettingsInput & { training: { steps: number; packTokens: number } };
  /** What is written lies here. */
  folder: string;
}

/** Makes the conversations that every training takes. */
export async function synthesizeRun(run: SmallRun): Promise<void> {
  await withSession(run, run.settings, (parts) => synthesizeDataset({ ...parts, folder: datasetOf(run) }));
}

/** Trains, and returns the validation KL of the rows that come out: nats a supervised token. */
export async function trainRun(run: SmallRun, training: SettingsInput['training'], name: string): Promise<number> {
  const settings = { ...run.settings, training: { ...run.settings.training, ...training } };
  const { result } = await withSession(run, settings, (parts) =>
    trainCartridge({ ...parts, dataset: datasetOf(run), folder: join(run.folder, name) }),
  );
  return result.validationKl;
}

/** A pack of the conversations in front of the rows that training starts from. */
export function subjectOf(run: SmallRun): Promise<StepSubject> {
  return withSession(run, run.settings, async ({ session, corpus, settings }) => {
    const { gguf, config, framing } = session;
    const conversations = await loadConversations(await openDataset(datasetOf(run)));
    const { contextLength, vocabularySize } = config;
    const limits = { maxTokens: contextLength, vocabularySize };
    const { examples } = makeExamples(conversations, framing, { targets: 'distillation', ...limits });
    const shape = choosePackShape(examples, run.settings.training.packTokens);
    const tokenCount = planTokenCount(corpus.tokens, settings, contextLength, framing.systemFrameTokens);
    const initialRows = await prepareInitialRows(session, corpus.text, settings, tokenCount);
    const model = await FrozenModel.load(session.backend, gguf, EXACT_WEIGHTS);
    const rows = await initialRows.compute(model, {});
    await model.dispose();
    return {
      name: run.name,
      gguf,
      packs: packExamples(examples, shape).slice(0, 1),
      options: { shape, ...rows, frozenCount: settings.training.frozenTokens },
      learningRate: SUBJECT_LEARNING_RATE,
    };
  });
}

interface Parts {
  session: ModelSession;
  corpus: TokenizedCorpus;
  settings: Settings;
}

/** A session of its own: it keeps the first student that it loads, in one type. */
async function withSession<T>(
  { model, threads }: SmallRun,
  settings: SettingsInput,
  work: (parts: Parts) => Promise<T>,
): Promise<T> {
  const session = await ModelSession.open({ model, device: 'cpu', threads });
  try {
    return await work({ session, corpus: await loadCorpus(SOURCE, session.tokenizer), settings: resolveSettings(settings) });
  } finally {
    await session.dispose();
  }
}

function datasetOf({ folder }: SmallRun): string {
  return join(folder, 'dataset');
}
