import type { RunOptions } from '../core/progress.js';
import { inWorkFolder } from '../core/work-folder.js';
import { chunkDocuments } from '../corpus/chunker.js';
import type { InferenceEngine } from '../inference/inference-engine.js';
import { LocalChatClient } from '../inference/local-chat-client.js';
import { readManifest } from '../self-study/dataset/manifest.js';
import { type SynthesisReport, synthesize } from '../self-study/synthesize.js';
import type { TokenizedCorpus } from './corpus-source.js';
import { isSmall } from './engine-tuning.js';
import type { ModelSession } from './model-session.js';
import { planSynthesis, type SynthesisPlan } from './plan.js';
import type { Settings } from './settings.js';

export interface SynthesizeDatasetOptions extends RunOptions {
  session: ModelSession;
  corpus: TokenizedCorpus;
  settings: Settings;
  /** The dataset's folder; one with shards of the same synthesis is continued. */
  folder: string;
  /** That of a build, which has said already whether the model is tuned. */
  plan?: SynthesisPlan;
}

/** Tokens of a system frame and of two turns around chunk, question and answer; generous. */
const FRAMING_TOKENS = 96;
/** Cells that the cache may have at most: what does not fit waits its turn. */
const MAX_CACHE_TOKENS = 65_536;

/**
 * Self-study of a corpus with the model as both roles and as teacher. Throws as `synthesize` does, and `INVALID_OPTION` while another
 * process works in the folder.
 */
export function synthesizeDataset(options: SynthesizeDatasetOptions): Promise<SynthesisReport> {
  return inWorkFolder(options.folder, () => synthesizeInto(options));
}

async function synthesizeInto(options: SynthesizeDatasetOptions): Promise<SynthesisReport> {
  const { session, corpus, settings, folder, onProgress, signal } = options;
  const plan = options.plan ?? planSynthesis(corpus.tokens, settings, session.recommendations);
  const { synthesis } = settings;
  if (!options.plan) await adviseTuning(options);
  const chunks = chunkDocuments(corpus.documents, session.tokenizer, {
    minTokens: plan.chunkMinTokens,
    maxTokens: plan.chunkMaxTokens,
  });
  const conversationTokens = plan.chunkMaxTokens + plan.questionMaxTokens + plan.answerMaxTokens + FRAMING_TOKENS;
  const engine = await session.createEngine({
    contextTokens: Math.min(MAX_CACHE_TOKENS, synthesis.concurrency * conversationTokens),
    maxRequests: Math.min(128, synthesis.concurrency),
  });
  try {
    return await synthesize({
      folder,
      chunks,
      prompts: session.prompts,
      client: new LocalChatClient({ engine, framing: session.framing }),
      settings: {
        conversations: plan.conversations,
        concurrency: synthesis.concurrency,
        seed: settings.seed,
        temperatureA: synthesis.temperature,
        maxTokensA: plan.questionMaxTokens,
        maxTokensB: plan.answerMaxTokens,
        topLogprobs: synthesis.topLogprobs,
        minProbabilityMass: synthesis.minProbabilityMass,
        endRepetition: synthesis.endRepetition,
        keepTruncated: plan.keepTruncated,
        minTokenProbability: plan.minTokenProbability,
        keepRepeated: synthesis.keepRepeated,
        duplicates: synthesis.keepDuplicates ? 'keep' : 'chunk',
      },
      teacher: { model: session.fingerprint, framing: { name: session.framing.name, hash: session.framing.hash } },
      computation: describeComputation(session, engine),
      ...(onProgress && { onProgress }),
      ...(signal && { signal }),
    });
  } finally {
    await engine.dispose();
  }
}

/** Says what would make self-study faster. A dataset that has begun belongs to the tuning that it began with. */
export async function adviseTuning({
  session,
  folder,
  onProgress,
}: Pick<SynthesizeDatasetOptions, 'session' | 'folder' | 'onProgress'>): Promise<void> {
  const { languageModel, tuningAdvice } = session;
  if (!tuningAdvice || isSmall(languageModel) || (await readManifest(folder))) return;
  onProgress?.({ kind: 'note', stage: 'synthesize', message: tuningAdvice });
}

/** Threads, device and tuning change rounding, so a dataset is the same only with them. */
function describeComputation({ languageModel, tuning }: ModelSession, { threads }: InferenceEngine): Record<string, unknown> {
  const { engine, device } = languageModel;
  return { engine: engine.versions, device: device.description, threads, ...(tuning && { tuning }) };
}
