import { throwIfAborted, toCartridgesError } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import { mean, median, share } from './metrics.js';
import type { Question } from './questions.js';
import { isAbstention, isCorrect, isExact } from './scoring.js';

export interface AnsweredQuestion {
  text: string;
  /** Tokens run before the first answer token; what was cached already does not count. */
  promptTokens: number;
  timeToFirstTokenMs?: number;
  decodeTokensPerSecond?: number;
}

/** Answers questions in one condition. Callers ask everything at once; the answerer bounds how much runs at the same time. */
export interface QuestionAnswerer {
  answer(question: Question, signal?: AbortSignal): Promise<AnsweredQuestion>;
}

/** One question with what came back for it. */
export interface AnswerRow {
  question: Question;
  /** Empty when the question failed. */
  reply: string;
  correct: boolean;
  exact: boolean;
  abstained: boolean;
  promptTokens?: number;
  timeToFirstTokenMs?: number;
  decodeTokensPerSecond?: number;
  /** Why the question failed. */
  error?: string;
}

/** Shares are 0 to 1 of all questions, failed ones included as wrong; null is of no questions. */
export interface GenerationResult {
  questions: number;
  failed: number;
  accuracy: number | null;
  exactAccuracy: number | null;
  abstentionRate: number | null;
  /** By `kind`; questions without one are left out. */
  byKind: Record<string, { questions: number; accuracy: number }>;
  /** Mean. */
  promptTokens: number | null;
  /** Median. */
  timeToFirstTokenMs: number | null;
  /** Median. */
  decodeTokensPerSecond: number | null;
  /** In the order of the questions. */
  rows: AnswerRow[];
}

export interface GenerationEvalOptions extends RunOptions {
  questions: readonly Question[];
  answerer: QuestionAnswerer;
  /** A reply that contains one of these is an abstention. */
  refusals: readonly string[];
  /** For progress events, such as the condition. */
  name: string;
}

/**
 * Asks every question and scores the replies. A question that fails is told as a warning, kept with its error and counted as
 * wrong; an abort ends everything with `CANCELLED`.
 */
export async function evaluateGeneration(options: GenerationEvalOptions): Promise<GenerationResult> {
  const { questions, name, onProgress } = options;
  const started = performance.now();
  let done = 0;
  onProgress?.({
    kind: 'start',
    stage: 'evaluate',
    message: `asking ${questions.length} questions: ${name}`,
    total: questions.length,
  });
  const rows = await Promise.all(
    questions.map(async (question) => {
      const row = await askOne(question, options);
      onProgress?.({ kind: 'progress', stage: 'evaluate', done: ++done, total: questions.length, message: name });
      return row;
    }),
  );
  const result = summarise(rows);
  const seconds = (performance.now() - started) / 1000;
  onProgress?.({
    kind: 'end',
    stage: 'evaluate',
    message: `answered ${questions.length - result.failed} questions: ${name}`,
    seconds,
  });
  return result;
}

async function askOne(
  question: Question,
  { answerer, refusals, signal, name, onProgress }: GenerationEvalOptions,
): Promise<AnswerRow> {
  throwIfAborted(signal);
  try {
    const { text: reply, ...measured } = await answerer.answer(question, signal);
    return {
      question,
      reply,
      correct: isCorrect(reply, question),
      exact: isExact(reply, question),
      abstained: isAbstention(reply, refusals),
      ...measured,
    };
  } catch (thrown) {
    throwIfAborted(signal);
    const error = toCartridgesError(thrown);
    onProgress?.({ kind: 'warning', stage: 'evaluate', message: `question ${question.id} failed (${name}): ${error.message}` });
    return { question, reply: '', correct: false, exact: false, abstained: false, error: `${error.code}: ${error.message}` };
  }
}

function summarise(rows: AnswerRow[]): GenerationResult {
  return {
    questions: rows.length,
    failed: rows.filter(({ error }) => error !== undefined).length,
    accuracy: share(rows.map(({ correct }) => correct)),
    exactAccuracy: share(rows.map(({ exact }) => exact)),
    abstentionRate: share(rows.map(({ abstained }) => abstained)),
    byKind: accuracyByKind(rows),
    promptTokens: mean(measuredOf(rows, 'promptTokens')),
    timeToFirstTokenMs: median(measuredOf(rows, 'timeToFirstTokenMs')),
    decodeTokensPerSecond: median(measuredOf(rows, 'decodeTokensPerSecond')),
    rows,
  };
}

function accuracyByKind(rows: readonly AnswerRow[]): GenerationResult['byKind'] {
  const kinds = new Set(rows.flatMap(({ question }) => question.kind ?? []));
  const entries = [...kinds].map((kind) => {
    const correct = rows.filter(({ question }) => question.kind === kind).map((row) => row.correct);
    return [kind, { questions: correct.length, accuracy: share(correct) as number }] as const;
  });
  return Object.fromEntries(entries);
}

function measuredOf(
  rows: readonly AnswerRow[],
  field: 'promptTokens' | 'timeToFirstTokenMs' | 'decodeTokensPerSecond',
): number[] {
  return rows.flatMap((row) => row[field] ?? []);
}
