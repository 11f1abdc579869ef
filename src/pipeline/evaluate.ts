import type { Cartridge } from '../cartridge/cartridge.js';
import { throwIfAborted } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import { type ConditionResult, evaluateCondition, type QuestionSets } from '../evaluation/condition-eval.js';
import { CONDITION_TITLES, CONDITIONS, type ConditionName, type PerCondition } from '../evaluation/conditions.js';
import type { EvaluationReport, ReportedAnswer } from '../evaluation/report.js';
import { BUILT_IN_REFUSALS } from '../evaluation/scoring.js';
import type { CartridgeHandle } from '../inference/cartridge-handle.js';
import type { DraftSource } from '../inference/drafting/draft-source.js';
import { TextDraft } from '../inference/drafting/text-draft.js';
import type { InferenceEngine } from '../inference/inference-engine.js';
import { ConditionAnswerer } from './condition-answerer.js';
import type { TokenizedCorpus } from './corpus-source.js';
import { type EvaluationRoom, planRoom } from './evaluation-room.js';
import type { ModelSession } from './model-session.js';

export interface EvaluateOptions extends RunOptions {
  session: ModelSession;
  cartridge: Cartridge;
  /** As the report names it. */
  cartridgePath: string;
  /** The cartridge was trained with another quantisation of the model; the report records it. */
  quantizationDiffers?: boolean;
  corpus: TokenizedCorpus;
  sets: QuestionSets;
  /** Longest answer in tokens. */
  maxTokens: number;
}

export interface Evaluation {
  report: EvaluationReport;
  answers: ReportedAnswer[];
  results: PerCondition<ConditionResult>;
}

/** Questions that are answered at the same time. */
const CONCURRENT_QUESTIONS = 16;
/** Cells for questions and answers that the cache may have at most: what does not fit waits its turn. */
const MAX_QUESTION_CELLS = 65_536;

/**
 * Asks the same questions in four conditions: without the text, with the whole text, with the text cut to the cartridge's
 * size, and with the cartridge. Accuracy and perplexity are measured with many questions at once and the shared context
 * computed once; times with one question alone and nothing cached, as a first user meets them.
 */
export async function evaluateCartridge(options: EvaluateOptions): Promise<Evaluation> {
  const { session, cartridge, corpus, sets } = options;
  const started = performance.now();
  const seconds: Record<string, number> = {};
  const room = planRoom(session, sets, options.maxTokens);
  const full = encodeFullText(session, corpus.text, room.leastTokens);
  const maxTokens = answerTokens(options, room, Math.max(full.tokens.length, cartridge.tokenCount));
  const requestTokens = Math.max(room.leastTokens, room.questionTokens + maxTokens);
  const questionCells = Math.max(requestTokens, Math.min(MAX_QUESTION_CELLS, CONCURRENT_QUESTIONS * requestTokens));
  const engine = await session.createEngine({
    contextTokens: full.tokens.length + cartridge.tokenCount + questionCells,
    maxRequests: CONCURRENT_QUESTIONS,
  });
  try {
    const handle = await engine.loadCartridge(cartridge);
    const prefixes: PerCondition<Prefix> = {
      none: { tokens: new Int32Array(0) },
      full,
      truncated: encodeTruncatedText(session, corpus.text, cartridge.tokenCount),
      cartridge: { tokens: new Int32Array(0), handle },
    };
    const draft = new TextDraft(session.tokenizer.encode(corpus.text));
    const results = {} as PerCondition<ConditionResult>;
    for (const condition of CONDITIONS) {
      throwIfAborted(options.signal);
      const before = performance.now();
      results[condition] = await evaluateOne(condition, prefixes[condition], { engine, draft }, { ...options, maxTokens });
      seconds[condition] = (performance.now() - before) / 1000;
      options.onProgress?.({
        kind: 'end',
        stage: 'evaluate',
        message: describe(condition, results[condition]),
        seconds: seconds[condition],
      });
    }
    seconds['total'] = (performance.now() - started) / 1000;
    return { report: toReport(options, results, seconds), answers: allAnswers(results), results };
  } finally {
    await engine.dispose();
  }
}

/** The longest answer behind the longest context: the same in all conditions, since longer ones contain more. */
function answerTokens({ session, maxTokens, onProgress }: EvaluateOptions, room: EvaluationRoom, contextTokens: number): number {
  const most = Math.max(1, session.config.contextLength - contextTokens - room.questionTokens);
  if (maxTokens <= most) return maxTokens;
  const message = `answers end after ${most} tokens, which is what the model's context leaves behind the text`;
  onProgress?.({ kind: 'warning', stage: 'evaluate', message });
  return most;
}

interface Prefix {
  tokens: Int32Array;
  handle?: CartridgeHandle;
  cut?: boolean;
  withoutText?: boolean;
}

/** The text in the system message; of one that does not fit the tail is kept. */
function encodeFullText(session: ModelSession, text: string, leastTokens: number): Prefix {
  const whole = session.framing.encodeSystemPrefix(text);
  const room = session.config.contextLength - leastTokens;
  if (whole.length <= room) return { tokens: whole };
  return { tokens: session.framing.encodeSystemPrefix(text, room, 'end'), cut: true };
}

/** The beginning of the text, framing and text together as long as the cartridge; of one that is shorter, the framing alone. */
function encodeTruncatedText({ framing }: ModelSession, text: string, tokenCount: number): Prefix {
  if (tokenCount > framing.systemFrameTokens) return { tokens: framing.encodeSystemPrefix(text, tokenCount) };
  return { tokens: framing.encodeSystemPrefix(''), withoutText: true };
}

async function evaluateOne(
  condition: ConditionName,
  prefix: Prefix,
  { engine, draft }: { engine: InferenceEngine; draft: DraftSource },
  options: EvaluateOptions,
): Promise<ConditionResult> {
  const { session, cartridge, sets, maxTokens, onProgress, signal } = options;
  const answerer = new ConditionAnswerer({
    engine,
    framing: session.framing,
    prefix: prefix.tokens,
    bos: condition === 'none',
    maxTokens,
    draft,
    ...(prefix.handle && { cartridge: prefix.handle }),
  });
  await answerer.measureTimes(sets.questions, signal);
  const contextTokens = condition === 'cartridge' ? cartridge.tokenCount : prefix.tokens.length;
  const subject = {
    condition,
    answerer,
    scorer: answerer,
    kvBytes: contextTokens * engine.kvBytesPerToken,
    ...(prefix.cut && { cut: true }),
    ...(prefix.withoutText && { withoutText: true }),
  };
  const refusals = session.prompts.refusals ?? BUILT_IN_REFUSALS;
  const run = { ...(onProgress && { onProgress }), ...(signal && { signal }) };
  // A long text is read once for all sets of questions.
  return engine.together(() => evaluateCondition({ subject, sets, refusals, ...run }));
}

function toReport(
  { cartridge, cartridgePath, corpus, sets, quantizationDiffers }: EvaluateOptions,
  results: PerCondition<ConditionResult>,
  seconds: Record<string, number>,
): EvaluationReport {
  const per = <T>(value: (result: ConditionResult) => T | null | undefined): Partial<PerCondition<T>> =>
    Object.fromEntries(
      CONDITIONS.flatMap((condition) => {
        const measured = value(results[condition]);
        return measured === null || measured === undefined ? [] : [[condition, measured]];
      }),
    );
  return {
    cartridge: { path: cartridgePath, tokens: cartridge.tokenCount, ...(quantizationDiffers && { otherQuantization: true }) },
    corpus: { tokens: corpus.tokens },
    questions: sets.questions.length,
    ...(sets.conversations && { conversations: sets.conversations.length }),
    seconds: { ...seconds, total: seconds['total'] ?? 0 },
    conditions: per((result) => result.report) as EvaluationReport['conditions'],
    compression: results.full.report.kvBytes / results.cartridge.report.kvBytes,
    abstention: per((result) => result.unanswerable?.abstentionRate),
    general: per((result) => result.general?.accuracy),
  };
}

function allAnswers(results: PerCondition<ConditionResult>): ReportedAnswer[] {
  return CONDITIONS.flatMap((condition) =>
    (['questions', 'unanswerable', 'general'] as const).flatMap((set) =>
      (results[condition][set]?.rows ?? []).map((row) => ({ ...row, condition, set })),
    ),
  );
}

function describe(condition: ConditionName, { report }: ConditionResult): string {
  const accuracy = report.accuracy === null ? 'no questions' : `accuracy ${(report.accuracy * 100).toFixed(0)} %`;
  return `${CONDITION_TITLES[condition]}: ${accuracy}`;
}
