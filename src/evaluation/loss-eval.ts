import { CartridgesError, throwIfAborted, toCartridgesError } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import type { Conversation } from '../self-study/conversation.js';
import { perplexity } from './metrics.js';
import type { Question } from './questions.js';

/** `sum` of the negative natural-log likelihoods of some tokens, and their number. */
export interface Likelihood {
  sum: number;
  tokens: number;
}

/** Scores given answers in one condition. Callers ask everything at once; the scorer bounds how much runs at the same time. */
export interface ReferenceScorer {
  /** Of the reference's tokens behind the question. */
  negativeLogLikelihood(question: string, reference: string, signal?: AbortSignal): Promise<Likelihood>;
}

/** Scores whole conversations in one condition. */
export interface ConversationScorer {
  /** Of the assistant's tokens, the ends of its turns included, each behind all that was said before it. */
  conversationLikelihood(conversation: Conversation, signal?: AbortSignal): Promise<Likelihood>;
}

export interface LossRow extends Likelihood {
  id: string;
}

export interface LossResult {
  /** Mean negative log-likelihood of a token; null when nothing was scored. */
  loss: number | null;
  perplexity: number | null;
  tokens: number;
  /** Questions without a reference and without an answer. */
  skipped: number;
  /** Ids of items that failed; they are not in the loss, so losses with different numbers of them do not compare. */
  failed: string[];
  /** In the order of the items. */
  rows: LossRow[];
}

interface LossEval extends RunOptions {
  /** For progress events, such as the condition. */
  name: string;
}

export interface LossEvalOptions extends LossEval {
  questions: readonly Question[];
  scorer: ReferenceScorer;
  /** What a model is asked for a question; by default its text. */
  prompt?: (question: Question) => string;
}

export interface ConversationLossOptions extends LossEval {
  conversations: readonly Conversation[];
  scorer: ConversationScorer;
}

/**
 * Loss and perplexity of the questions' references, token by token over all of them; where a question has no reference, of its
 * answer. A question that fails is told as a warning and counted; an abort ends everything with `CANCELLED`.
 */
export async function evaluateLoss(options: LossEvalOptions): Promise<LossResult> {
  const { questions, scorer, prompt = ({ question }) => question } = options;
  const items = questions.flatMap((question): LossItem[] => {
    const reference = question.reference ?? question.answer;
    if (reference === null) return [];
    return [{ id: question.id, score: (signal) => scorer.negativeLogLikelihood(prompt(question), reference, signal) }];
  });
  return { ...(await scoreAll(items, 'question', options)), skipped: questions.length - items.length };
}

/**
 * Loss and perplexity of what the assistant says in conversations that no training saw. Failures and aborts are as in
 * {@link evaluateLoss}.
 */
export function evaluateConversationLoss(options: ConversationLossOptions): Promise<LossResult> {
  const { conversations, scorer } = options;
  const items = conversations.map(
    (conversation): LossItem => ({
      id: conversation.id,
      score: (signal) => scorer.conversationLikelihood(conversation, signal),
    }),
  );
  return scoreAll(items, 'conversation', options);
}

interface LossItem {
  id: string;
  score(signal: AbortSignal | undefined): Promise<Likelihood>;
}

async function scoreAll(items: readonly LossItem[], kind: string, options: LossEval): Promise<LossResult> {
  const { name, onProgress } = options;
  const started = performance.now();
  let done = 0;
  onProgress?.({ kind: 'start', stage: 'evaluate', message: `scoring ${items.length} ${kind}s: ${name}`, total: items.length });
  const results = await Promise.all(
    items.map(async (item) => {
      const row = await scoreOne(item, kind, options);
      onProgress?.({ kind: 'progress', stage: 'evaluate', done: ++done, total: items.length, message: name });
      return row;
    }),
  );
  const rows = results.filter((row) => row !== undefined);
  const seconds = (performance.now() - started) / 1000;
  onProgress?.({ kind: 'end', stage: 'evaluate', message: `scored ${rows.length} ${kind}s: ${name}`, seconds });
  const failed = items.flatMap(({ id }, index) => (results[index] ? [] : [id]));
  return { ...totals(rows), skipped: 0, failed, rows };
}

async function scoreOne({ id, score }: LossItem, kind: string, options: LossEval): Promise<LossRow | undefined> {
  const { signal, name, onProgress } = options;
  throwIfAborted(signal);
  try {
    const { sum, tokens } = await score(signal);
    if (!Number.isFinite(sum)) throw new CartridgesError('NON_FINITE_LOSS', `its loss is ${sum}`);
    return { id, sum, tokens };
  } catch (thrown) {
    throwIfAborted(signal);
    const message = `${kind} ${id} could not be scored (${name}): ${toCartridgesError(thrown).message}`;
    onProgress?.({ kind: 'warning', stage: 'evaluate', message });
    return undefined;
  }
}

function totals(rows: readonly LossRow[]): Pick<LossResult, 'loss' | 'perplexity' | 'tokens'> {
  const sum = rows.reduce((total, row) => total + row.sum, 0);
  const tokens = rows.reduce((total, row) => total + row.tokens, 0);
  return { loss: tokens === 0 ? null : sum / tokens, perplexity: perplexity(sum, tokens), tokens };
}
