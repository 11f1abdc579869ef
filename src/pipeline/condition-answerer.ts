import type { AnsweredQuestion, QuestionAnswerer } from '../evaluation/generation-eval.js';
import type { ReferenceScorer } from '../evaluation/loss-eval.js';
import { type Question, questionPrompt } from '../evaluation/questions.js';
import type { CartridgeHandle } from '../inference/cartridge-handle.js';
import type { InferenceEngine } from '../inference/inference-engine.js';
import type { RequestContext } from '../inference/requests.js';
import { scoreContinuation } from '../inference/score.js';
import type { ChatFraming } from '../models/chat-framing.js';

export interface ConditionAnswererOptions {
  engine: InferenceEngine;
  framing: ChatFraming;
  /** Tokens before the turns: the system message, or none. */
  prefix: Int32Array;
  /** Begin with the model's begin-of-sequence token: where neither a prefix nor a cartridge brings one. */
  bos: boolean;
  maxTokens: number;
  cartridge?: CartridgeHandle;
}

/** Questions that are timed. */
const TIMED_QUESTIONS = 5;
/** New tokens of a timed answer: enough for a rate. */
const TIMED_TOKENS = 24;

/** Answers and scores questions behind a context that all of them share. */
export class ConditionAnswerer implements QuestionAnswerer, ReferenceScorer {
  readonly #options: ConditionAnswererOptions;
  readonly #times = new Map<Question, { timeToFirstTokenMs: number; decodeTokensPerSecond: number }>();

  constructor(options: ConditionAnswererOptions) {
    this.#options = options;
  }

  /** Times a few questions, one alone at a time, the whole prompt computed for each; {@link answer} reports them. */
  async measureTimes(questions: readonly Question[], signal?: AbortSignal): Promise<void> {
    const { engine, cartridge } = this.#options;
    for (const question of questions.slice(0, TIMED_QUESTIONS)) {
      const { timings } = await engine.complete({
        prompt: this.#prompt(questionPrompt(question)),
        maxTokens: TIMED_TOKENS,
        sampling: { temperature: 0 },
        ignoreEndOfGeneration: true,
        ...(cartridge && { cartridges: [cartridge] }),
        ...(signal && { signal }),
      });
      this.#times.set(question, timings);
    }
  }

  async answer(question: Question, signal?: AbortSignal): Promise<AnsweredQuestion> {
    const prompt = this.#prompt(questionPrompt(question));
    const completion = await this.#options.engine.complete({
      prompt,
      maxTokens: this.#options.maxTokens,
      sampling: { temperature: 0 },
      ...this.#context(signal),
    });
    const times = this.#times.get(question);
    return {
      text: completion.text,
      promptTokens: prompt.length,
      ...(times && { timeToFirstTokenMs: times.timeToFirstTokenMs, decodeTokensPerSecond: times.decodeTokensPerSecond }),
    };
  }

  async negativeLogLikelihood(
    question: string,
    reference: string,
    signal?: AbortSignal,
  ): Promise<{ sum: number; tokens: number }> {
    const { engine, framing } = this.#options;
    const answer = engine.tokenizer.encode(reference);
    const continuation = new Int32Array(answer.length + framing.endOfTurnTokens.length);
    continuation.set(answer);
    continuation.set(framing.endOfTurnTokens, answer.length);
    return scoreContinuation(engine, { prompt: this.#prompt(question), continuation, ...this.#context(signal) });
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
    const prompt = new Int32Array(prefix.length + turns.length);
    prompt.set(prefix);
    prompt.set(turns, prefix.length);
    return prompt;
  }
}
