import { concatenate } from '../core/concatenate.js';
import { throwIfAborted } from '../core/errors.js';
import type { AnsweredQuestion, QuestionAnswerer } from '../evaluation/generation-eval.js';
import type { ConversationScorer, Likelihood, ReferenceScorer } from '../evaluation/loss-eval.js';
import { type Question, questionPrompt } from '../evaluation/questions.js';
import type { CartridgeHandle } from '../inference/cartridge-handle.js';
import type { DraftSource } from '../inference/drafting/draft-source.js';
import type { InferenceEngine } from '../inference/inference-engine.js';
import type { RequestContext } from '../inference/requests.js';
import { scoreContinuation } from '../inference/score.js';
import type { ChatFraming } from '../models/chat-framing.js';
import type { Conversation } from '../self-study/conversation.js';

export interface ConditionAnswererOptions {
  engine: InferenceEngine;
  framing: ChatFraming;
  /** Tokens before the turns: the system message, or none. */
  prefix: Int32Array;
  /** Begin with the model's begin-of-sequence token: where neither a prefix nor a cartridge brings one. */
  bos: boolean;
  maxTokens: number;
  cartridge?: CartridgeHandle;
  /** Guesses of answers; times are measured without. */
  draft?: DraftSource;
}

/** Questions that are timed: at least so many, and more as long as they take little time. */
const LEAST_TIMED_QUESTIONS = 3;
const MOST_TIMED_QUESTIONS = 5;
const ENOUGH_TIMING_MS = 30_000;
/** New tokens of a timed answer: enough for a rate. */
export const TIMED_TOKENS = 24;

/** Answers and scores questions behind a context that all of them share. */
export class ConditionAnswerer implements QuestionAnswerer, ReferenceScorer, ConversationScorer {
  readonly #options: ConditionAnswererOptions;
  readonly #times = new Map<Question, { timeToFirstTokenMs: number; decodeTokensPerSecond: number }>();

  constructor(options: ConditionAnswererOptions) {
    this.#options = options;
  }

  /**
   * Times a few questions, one alone at a time, the whole prompt computed for each; {@link answer} reports them. One that fails has
   * no times: why is told where it is asked.
   */
  async measureTimes(questions: readonly Question[], signal?: AbortSignal): Promise<void> {
    const { engine, cartridge } = this.#options;
    const started = performance.now();
    for (const question of questions.slice(0, MOST_TIMED_QUESTIONS)) {
      if (this.#times.size >= LEAST_TIMED_QUESTIONS && performance.now() - started > ENOUGH_TIMING_MS) return;
      const request = {
        prompt: this.#prompt(questionPrompt(question)),
        maxTokens: TIMED_TOKENS,
        sampling: { temperature: 0 },
        ignoreEndOfGeneration: true,
        ...(cartridge && { cartridges: [cartridge] }),
        ...(signal && { signal }),
      };
      const completion = await engine.complete(request).catch(() => throwIfAborted(signal));
      if (completion) this.#times.set(question, completion.timings);
    }
  }

  async answer(question: Question, signal?: AbortSignal): Promise<AnsweredQuestion> {
    const { engine, maxTokens, draft } = this.#options;
    const prompt = this.#prompt(questionPrompt(question));
    const completion = await engine.complete({
      prompt,
      maxTokens,
      sampling: { temperature: 0 },
      ...(draft && { draft }),
      ...this.#context(signal),
    });
    const times = this.#times.get(question);
    return {
      text: completion.text,
      promptTokens: prompt.length,
      ...(times && { timeToFirstTokenMs: times.timeToFirstTokenMs, decodeTokensPerSecond: times.decodeTokensPerSecond }),
    };
  }

  async negativeLogLikelihood(question: string, reference: string, signal?: AbortSignal): Promise<Likelihood> {
    const { engine, framing } = this.#options;
    const continuation = concatenate(Int32Array, [engine.tokenizer.encode(reference), framing.endOfTurnTokens]);
    return scoreContinuation(engine, { prompt: this.#prompt(question), continuation, ...this.#context(signal) });
  }

  /** One reading for each answer, so that a conversation of several turns is scored turn by turn behind what came before. */
  async conversationLikelihood({ messages }: Conversation, signal?: AbortSignal): Promise<Likelihood> {
    const { engine, framing, prefix, bos } = this.#options;
    const { tokens, supervised } = framing.encodeConversation(messages);
    const first = bos ? framing.encodeTurns([], { addGenerationPrompt: false, bos: true }) : prefix;
    const scores = await Promise.all(
      supervised.map(({ start, end }) =>
        scoreContinuation(engine, {
          prompt: concatenate(Int32Array, [first, tokens.subarray(0, start)]),
          continuation: tokens.subarray(start, end),
          ...this.#context(signal),
        }),
      ),
    );
    return scores.reduce((total, { sum, tokens: count }) => ({ sum: total.sum + sum, tokens: total.tokens + count }), {
      sum: 0,
      tokens: 0,
    });
  }

  #context(signal: AbortSignal | undefined): RequestContext {
    const { prefix, cartridge } = this.#options;
    return {
      sharedPrefixTokens: prefix.length,
      ...(cartridge && { cartridges: [cartridge] }),
      ...(signal && { signal }),
    };
  }

  #prompt(question: string): Int32Array {
    const { framing, prefix, bos } = this.#options;
    const turns = framing.encodeTurns([{ role: 'user', content: question }], { addGenerationPrompt: true, bos });
    return concatenate(Int32Array, [prefix, turns]);
  }
}
