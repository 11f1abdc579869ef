import type { QuestionSets } from '../evaluation/condition-eval.js';
import { questionPrompt } from '../evaluation/questions.js';
import { TIMED_TOKENS } from './condition-answerer.js';
import type { ModelSession } from './model-session.js';

/** Tokens of an answer for which a text is rather cut than the answer. */
const FAIR_ANSWER_TOKENS = 64;
/** Of the model's context, what questions and answers take at most: one that is longer fails alone. */
const LARGEST_SHARE = 0.5;

/** Tokens behind the context that all questions share. */
export interface EvaluationRoom {
  /** Of the longest question with its framing, of those that are not too long. */
  questionTokens: number;
  /** Kept free behind a text: it is cut where it leaves less. */
  leastTokens: number;
}

/** What the longest of all questions, references and conversations needs behind a text. */
export function planRoom({ framing, tokenizer, config }: ModelSession, sets: QuestionSets, maxTokens: number): EvaluationRoom {
  const most = Math.floor(config.contextLength * LARGEST_SHARE);
  const longest = (lengths: readonly number[]) => lengths.reduce((max, length) => Math.max(max, length), 0);
  const questions = [...sets.questions, ...(sets.unanswerable ?? []), ...(sets.general ?? [])];
  const questionTokens = longest(
    questions.map((question) => {
      const turns = [{ role: 'user' as const, content: questionPrompt(question) }];
      return framing.encodeTurns(turns, { addGenerationPrompt: true, bos: true }).length;
    }),
  );
  const references = questions.map(({ reference, answer }) => tokenizer.encode(reference ?? answer ?? '').length);
  const referenceTokens = longest(references) + framing.endOfTurnTokens.length;
  const conversationTokens = longest(
    (sets.conversations ?? []).map(({ messages }) => framing.encodeConversation(messages).tokens.length),
  );
  const answerTokens = Math.max(TIMED_TOKENS, Math.min(maxTokens, FAIR_ANSWER_TOKENS), referenceTokens);
  return {
    questionTokens: Math.min(questionTokens, most),
    leastTokens: Math.min(most, Math.max(questionTokens + answerTokens, conversationTokens)),
  };
}
