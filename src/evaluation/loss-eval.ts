import { CartridgesError, throwIfAborted, toCartridgesError } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import { perplexity } from './metrics.js';
import type { Question } from './questions.js';

/** Scores given answers in one condition. Callers ask everything at once; the scorer bounds how much runs at the same time. */
export interface ReferenceScorer {
  /** `sum` of the negative natural-log likelihoods of the reference's tokens behind the question, and their number. */
  negativeLogLikelihood(question: string, reference: string, signal?: AbortSignal): Promise<{ sum: number; tokens: number }>;
}

export interface LossRow {
  id: string;
  reference: string;
  sum: number;
  tokens: number;
}

export interface LossResult {
  /** Mean negative log-likelihood of a token; null when nothing was scored. */
  loss: number | null;
  perplexity: number | null;
  tokens: number;
  /** Questions without a reference and without an answer. */
  skipped: number;
  /** Questions that failed; they are not in the loss, so losses with different numbers of them do not compare. */
  failed: number;
  /** In the order of the questions. */
  rows: LossRow[];
}

export interface LossEvalOptions extends RunOptions {
  questions: readonly Question[];
  scorer: ReferenceScorer;
  /** What a model is asked for a question; by default its text. */
  prompt?: (question: Question) => string;
  /** For progress events, such as the condition. */
  name: string;
}

/**
 * Loss and perplexity of the questions' references, token by token over all of them; where a question has no reference, of its
 * answer. A question that fails is told as a warning and counted; an abort ends everything with `CANCELLED`.
 */
export async function evaluateLoss(options: LossEvalOptions): Promise<LossResult> {
  const { questions, name, onProgress } = options;
  const scored = questions.flatMap((question) => {
    const reference = question.reference ?? question.answer;
    return reference === null ? [] : [{ question, reference }];
  });
  const started = performance.now();
  let done = 0;
  onProgress?.({
    kind: 'start',
    stage: 'evaluate',
    message: `scoring ${scored.length} references: ${name}`,
    total: scored.length,
  });
  const results = await Promise.all(
    scored.map(async ({ question, reference }) => {
      const row = await scoreOne(question, reference, options);
      onProgress?.({ kind: 'progress', stage: 'evaluate', done: ++done, total: scored.length, message: name });
      return row;
    }),
  );
  const rows = results.filter((row) => row !== undefined);
  const seconds = (performance.now() - started) / 1000;
  onProgress?.({ kind: 'end', stage: 'evaluate', message: `scored ${rows.length} references: ${name}`, seconds });
  return { ...totals(rows), skipped: questions.length - scored.length, failed: scored.length - rows.length, rows };
}

async function scoreOne(question: Question, reference: string, options: LossEvalOptions): Promise<LossRow | undefined> {
  const { scorer, signal, name, onProgress, prompt = ({ question: asked }) => asked } = options;
  throwIfAborted(signal);
  try {
    const { sum, tokens } = await scorer.negativeLogLikelihood(prompt(question), reference, signal);
    if (!Number.isFinite(sum)) throw new CartridgesError('NON_FINITE_LOSS', `the loss of its reference is ${sum}`);
    return { id: question.id, reference, sum, tokens };
  } catch (thrown) {
    throwIfAborted(signal);
    const message = `question ${question.id} could not be scored (${name}): ${toCartridgesError(thrown).message}`;
    onProgress?.({ kind: 'warning', stage: 'evaluate', message });
    return undefined;
  }
}

function totals(rows: readonly LossRow[]): Pick<LossResult, 'loss' | 'perplexity' | 'tokens'> {
  const sum = rows.reduce((total, row) => total + row.sum, 0);
  const tokens = rows.reduce((total, row) => total + row.tokens, 0);
  return { loss: tokens === 0 ? null : sum / tokens, perplexity: perplexity(sum, tokens), tokens };
}
