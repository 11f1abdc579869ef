import type { RunOptions } from '../core/progress.js';
import type { Conversation } from '../self-study/conversation.js';
import { CONDITION_TITLES, type ConditionName, type ConditionReport } from './conditions.js';
import { evaluateGeneration, type GenerationResult, type QuestionAnswerer } from './generation-eval.js';
import {
  type ConversationScorer,
  evaluateConversationLoss,
  evaluateLoss,
  type LossResult,
  type ReferenceScorer,
} from './loss-eval.js';
import { type Question, questionPrompt } from './questions.js';

/** A condition ready to be asked. */
export interface ConditionSubject {
  condition: ConditionName;
  answerer: QuestionAnswerer;
  scorer: ReferenceScorer & ConversationScorer;
  kvBytes: number;
  /** The text did not fit the model's context: only its tail is shown. */
  cut?: boolean;
  /** Not even one token of the text fits the cartridge's size: only the framing is shown. */
  withoutText?: boolean;
}

export interface QuestionSets {
  /** About the text. */
  questions: readonly Question[];
  /** Questions that the text does not answer. */
  unanswerable?: readonly Question[];
  /** Questions that need no text. */
  general?: readonly Question[];
  /** Conversations about the text that no training saw. */
  conversations?: readonly Conversation[];
}

export interface ConditionResult {
  report: ConditionReport;
  questions: GenerationResult;
  loss: LossResult;
  unanswerable?: GenerationResult;
  general?: GenerationResult;
  conversations?: LossResult;
}

export interface ConditionEvalOptions extends RunOptions {
  subject: ConditionSubject;
  sets: QuestionSets;
  refusals: readonly string[];
}

/** Everything that is measured in one condition: one set of questions after the other, so that timings do not mix. */
export async function evaluateCondition({ subject, sets, refusals, ...run }: ConditionEvalOptions): Promise<ConditionResult> {
  const title = CONDITION_TITLES[subject.condition];
  const ask = (questions: readonly Question[], name: string) =>
    evaluateGeneration({ questions, answerer: subject.answerer, refusals, name, ...run });
  const questions = await ask(sets.questions, title);
  const loss = await evaluateLoss({
    questions: sets.questions,
    scorer: subject.scorer,
    prompt: questionPrompt,
    name: title,
    ...run,
  });
  const unanswerable = sets.unanswerable && (await ask(sets.unanswerable, `${title}, unanswerable`));
  const general = sets.general && (await ask(sets.general, `${title}, general`));
  const { conversations: held } = sets;
  const conversations =
    held && (await evaluateConversationLoss({ conversations: held, scorer: subject.scorer, name: title, ...run }));
  const optional = {
    ...(unanswerable && { unanswerable }),
    ...(general && { general }),
    ...(conversations && { conversations }),
  };
  return { report: toReport(subject, { questions, loss, ...optional }), questions, loss, ...optional };
}

function toReport(subject: ConditionSubject, results: Omit<ConditionResult, 'report'>): ConditionReport {
  const { questions, loss, unanswerable, general, conversations } = results;
  // A question that was neither answered nor scored failed once.
  const unanswered = questions.rows.filter(({ error }) => error !== undefined).map(({ question }) => question.id);
  const failedQuestions = new Set([...unanswered, ...loss.failed]).size;
  const failed = failedQuestions + (unanswerable?.failed ?? 0) + (general?.failed ?? 0) + (conversations?.failed.length ?? 0);
  return {
    accuracy: questions.accuracy,
    exactAccuracy: questions.exactAccuracy,
    ...(Object.keys(questions.byKind).length > 0 && { byKind: questions.byKind }),
    loss: loss.loss,
    perplexity: loss.perplexity,
    kvBytes: subject.kvBytes,
    promptTokens: questions.promptTokens,
    timeToFirstTokenMs: questions.timeToFirstTokenMs,
    decodeTokensPerSecond: questions.decodeTokensPerSecond,
    ...(conversations && { conversations: { loss: conversations.loss, perplexity: conversations.perplexity } }),
    ...(subject.cut && { cut: true as const }),
    ...(subject.withoutText && { withoutText: true as const }),
    ...(failed > 0 && { failed }),
  };
}
