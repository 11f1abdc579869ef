import { CartridgesError } from '../core/errors.js';
import type { ModelRecommendations } from '../models/model-folder.js';
import { defaultLearningRate } from '../training/schedule.js';
import type { TrainSettings } from '../training/train.js';
import type { Settings } from './settings.js';

/** Rows for each square root of the corpus' length: a longer text is told in relatively fewer rows. */
const ROWS_PER_ROOT_TOKEN = 6;
const ROW_MULTIPLE = 16;
const MIN_ROWS = 16;
const MAX_ROWS = 2_048;

/** Size of a cartridge for a corpus: 6 √tokens, a multiple of 16, at most a quarter of the corpus and 2,048. */
export function defaultTokenCount(corpusTokens: number): number {
  const wanted = Math.min(ROWS_PER_ROOT_TOKEN * Math.sqrt(corpusTokens), corpusTokens / 4, MAX_ROWS);
  return Math.max(MIN_ROWS, Math.round(wanted / ROW_MULTIPLE) * ROW_MULTIPLE);
}

/** Behind a cartridge a question and an answer must fit; a small context has half of its tokens for them. */
const CONVERSATION_TOKENS = 256;

/**
 * The number of rows: the setting, or the default within what the model allows. Rows can start from a system message only if
 * its framing, `frameTokens`, and some text fit. Throws `INVALID_OPTION` when all rows are frozen and `CONTEXT_OVERFLOW` when
 * they leave the model no room for a question and an answer.
 */
export function planTokenCount(corpusTokens: number, settings: Settings, contextLength: number, frameTokens = 0): number {
  const { tokens: tokenCount = fittingTokenCount(corpusTokens, contextLength, frameTokens), frozenTokens } = settings.training;
  if (frozenTokens >= tokenCount) {
    throw new CartridgesError(
      'INVALID_OPTION',
      `${frozenTokens} frozen rows leave nothing to train in a cartridge of ${tokenCount}`,
    );
  }
  const most = contextLength - Math.min(CONVERSATION_TOKENS, Math.floor(contextLength / 2));
  if (tokenCount <= most) return tokenCount;
  const message = `a cartridge of ${tokenCount} tokens leaves no room for a question and an answer in a context of ${contextLength}`;
  throw new CartridgesError('CONTEXT_OVERFLOW', message, { hint: `use --tokens ${most} or fewer` });
}

/** The default, at least the framing with some text and at most half of the context. */
function fittingTokenCount(corpusTokens: number, contextLength: number, frameTokens: number): number {
  const least = Math.ceil((frameTokens + MIN_ROWS) / ROW_MULTIPLE) * ROW_MULTIPLE;
  return Math.min(Math.max(least, defaultTokenCount(corpusTokens)), Math.floor(contextLength / 2));
}

export interface SynthesisPlan {
  conversations: number;
  chunkMinTokens: number;
  chunkMaxTokens: number;
  questionMaxTokens: number;
  answerMaxTokens: number;
  keepTruncated: boolean;
  minTokenProbability: number;
}

/** Answered tokens for each token of the corpus, before duplicates are dropped. */
const ANSWERED_TOKENS_PER_CORPUS_TOKEN = 16;
/** Of the longest answer that is allowed, what answers use on average. */
const USED_ANSWER_SHARE = 0.3;
const MIN_CONVERSATIONS = 256;
const MAX_CONVERSATIONS = 65_536;
const DEFAULT_CHUNK_TOKENS = 512;
const DEFAULT_QUESTION_TOKENS = 96;
const DEFAULT_ANSWER_TOKENS = 256;

/** What self-study asks for, settings first, then the model's recommendations, then the length of the corpus. */
export function planSynthesis(corpusTokens: number, settings: Settings, recommended: ModelRecommendations): SynthesisPlan {
  const { synthesis } = settings;
  const chunkMaxTokens = synthesis.chunkMaxTokens ?? recommended.chunkMaxTokens ?? DEFAULT_CHUNK_TOKENS;
  const answerMaxTokens = synthesis.answerMaxTokens ?? recommended.answerMaxTokens ?? DEFAULT_ANSWER_TOKENS;
  const answered = corpusTokens * (recommended.answeredTokensPerCorpusToken ?? ANSWERED_TOKENS_PER_CORPUS_TOKEN);
  const wanted = Math.ceil(answered / (USED_ANSWER_SHARE * answerMaxTokens));
  return {
    conversations: synthesis.conversations ?? Math.min(MAX_CONVERSATIONS, Math.max(MIN_CONVERSATIONS, wanted)),
    chunkMaxTokens,
    chunkMinTokens: synthesis.chunkMinTokens ?? Math.min(Math.ceil(chunkMaxTokens / 2), chunkMaxTokens),
    questionMaxTokens: synthesis.questionMaxTokens ?? recommended.questionMaxTokens ?? DEFAULT_QUESTION_TOKENS,
    answerMaxTokens,
    // A long answer that is cut teaches what it has said.
    keepTruncated: synthesis.keepTruncated ?? recommended.keepTruncated ?? true,
    // The answers of a larger model are longer and freer: most have a word for which another would have done as well.
    minTokenProbability: synthesis.minTokenProbability ?? recommended.minTokenProbability ?? 0,
  };
}

/**
 * Supervised tokens of an update where nothing else is said. SmolLM2-135M, 128 conversations: 144 updates of these came to a
 * validation KL of 0.0432, 72 of twice as many to 0.0453 in the same time; at three times the learning rate 0.0372 and 0.0397.
 */
export const DEFAULT_BATCH_TOKENS = 512;
/** Times that the supervised tokens of the dataset are seen. */
const DEFAULT_PASSES = 3;
/** Supervised tokens that are seen at least: a small dataset is seen more often. */
const MIN_SEEN_TOKENS = 100_000;
const MAX_STEPS = 20_000;

export interface TrainingPlan {
  /** Supervised tokens that one update shall see, as nearly as whole packs allow. */
  batchTokens: number;
  /** That all updates together shall see. */
  seenTokens: number;
  /** Where the settings say how many; else they follow from the tokens of an update. */
  steps: number | undefined;
  /** Where the settings or the model's folder say it; else it follows from the tokens of an update. */
  learningRate: number | undefined;
}

/** Size and number of updates, settings first, then the model's recommendations, then the size of the dataset. */
export function planTraining(supervisedTokens: number, settings: Settings, recommended: ModelRecommendations): TrainingPlan {
  const { training } = settings;
  return {
    batchTokens: training.batchTokens ?? recommended.batchTokens ?? DEFAULT_BATCH_TOKENS,
    seenTokens: Math.max(DEFAULT_PASSES * supervisedTokens, MIN_SEEN_TOKENS),
    steps: training.steps,
    learningRate: training.learningRate ?? recommended.learningRate,
  };
}

/** Updates of so many supervised tokens each. */
export function stepsOf({ steps, seenTokens }: TrainingPlan, tokensPerStep: number): number {
  return steps ?? Math.min(MAX_STEPS, Math.ceil(seenTokens / tokensPerStep));
}

/** What a build was measured to cost. */
export interface BuildSpeed {
  secondsPerConversation: number;
  /** Supervised tokens of a conversation. */
  tokensPerConversation: number;
  /** Of training, for each supervised token that is seen; undefined where it could not be measured. */
  secondsPerToken: number | undefined;
}

/** Of the time, what self-study may take at least, though training is cut short by it. */
const LEAST_SYNTHESIS_SHARE = 0.35;
/** Of the time, what a plan counts on: validation and slower hours take the rest. */
const PLANNED_SHARE = 0.9;

/** The most conversations, up to `wanted`, that can be made in so many seconds together with the training on them. */
export function affordableConversations(seconds: number, wanted: number, speed: BuildSpeed): number {
  const { secondsPerConversation, tokensPerConversation, secondsPerToken } = speed;
  const least = (seconds * LEAST_SYNTHESIS_SHARE) / secondsPerConversation;
  if (secondsPerToken === undefined) return Math.min(wanted, Math.floor(least));
  const planned = seconds * PLANNED_SHARE;
  const withPasses = planned / (secondsPerConversation + DEFAULT_PASSES * tokensPerConversation * secondsPerToken);
  // A small dataset is seen more often, so its training takes as long as that of a larger one.
  const beyondLeastTraining = (planned - MIN_SEEN_TOKENS * secondsPerToken) / secondsPerConversation;
  return Math.min(wanted, Math.floor(Math.max(least, Math.min(withPasses, beyondLeastTraining))));
}

/**
 * Of so many seconds, the share that self-study may take when it is slower than it was measured to be: what the planned training
 * leaves. Training makes fewer steps where it is slower too.
 */
export function synthesisShare(seconds: number, conversations: number, speed: BuildSpeed): number {
  const { tokensPerConversation, secondsPerToken } = speed;
  if (secondsPerToken === undefined) return LEAST_SYNTHESIS_SHARE;
  const seenTokens = Math.max(DEFAULT_PASSES * conversations * tokensPerConversation, MIN_SEEN_TOKENS);
  return Math.max(LEAST_SYNTHESIS_SHARE, 1 - (seenTokens * secondsPerToken) / seconds);
}

/** A validation after fewer steps would tell little that is new. */
const LEAST_STEPS_BETWEEN_VALIDATIONS = 10;

/** Everything that the train loop wants to know, from a plan, the loop that was made of it and the tokens of one update. */
export function trainSettings(
  { learningRate }: Pick<TrainingPlan, 'learningRate'>,
  { steps, packsPerStep, validations }: { steps: number; packsPerStep: number; validations: number },
  tokensPerStep: number,
  { training, seed }: Settings,
): TrainSettings {
  return {
    seed,
    steps,
    learningRate: learningRate ?? defaultLearningRate(tokensPerStep),
    warmupSteps: training.warmupSteps ?? Math.min(20, Math.ceil(steps / 20)),
    decay: training.decay,
    finalShare: 0.05,
    packsPerStep,
    validateEverySteps: Math.max(LEAST_STEPS_BETWEEN_VALIDATIONS, Math.ceil(steps / validations)),
    checkpointEverySteps: training.checkpointEverySteps,
  };
}
