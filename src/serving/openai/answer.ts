import { CartridgesError, toCartridgesError } from '../../core/errors.js';
import type { DraftSource } from '../../inference/drafting/draft-source.js';
import { OWN_TOKENS } from '../../inference/drafting/text-draft.js';
import type { GenerationListener } from '../../inference/generation.js';
import type { GeneratedToken, GenerationRequest } from '../../inference/requests.js';
import { TokenQueue } from '../../inference/token-queue.js';
import type { AnswerObserver, AnswerTrace, AnswerUsage } from '../answer-observer.js';
import type { Caller } from '../caller.js';
import type { CartridgeLibrary, HeldCartridges } from '../cartridges/cartridge-library.js';
import { RequestError } from '../request-error.js';
import type { ServedModel } from '../served-model.js';
import type { AnswerLimits } from './answer-limits.js';
import { type AnswerRequest, choiceSeed } from './answer-request.js';
import { chooseCartridges, holdCartridges } from './cartridge-choice.js';
import { blaming, refusal, toRefusal } from './refusals.js';

/** What answers are made with. */
export interface AnswerParts {
  model: ServedModel;
  library: CartridgeLibrary;
  /** What answers behind a cartridge may quote, by its id. */
  drafts: ReadonlyMap<string, DraftSource>;
  observer: AnswerObserver;
  limits: AnswerLimits;
}

/** A new token of one choice; choice c of prompt p has the index p · n + c. */
export interface ChoiceToken {
  choice: number;
  generated: GeneratedToken;
}

/**
 * All choices of one request while they are generated. However it ends, its cartridges are released and its trace is told, in
 * the moment that the last choice is over: nothing depends on anybody reading {@link tokens}.
 */
export class Answer {
  readonly request: AnswerRequest;
  /** Rows of cartridges in front of all prompts together. */
  readonly cartridgeTokens: number;
  /** What the sender should know beside the answer. */
  readonly warning: string | undefined;

  readonly #parts: AnswerParts;
  readonly #held: HeldCartridges;
  readonly #trace: AnswerTrace;
  readonly #controller: AbortController;
  readonly #prompts: readonly Int32Array[];
  readonly #queue = new TokenQueue<ChoiceToken>();
  /** Per prompt what all of its choices that are over have reused. */
  readonly #cachedTokens: (number | undefined)[] = [];
  #completionTokens = 0;
  /** Choices that are not over. */
  #open: number;
  #isOver = false;

  private constructor(request: AnswerRequest, work: Work) {
    this.request = request;
    this.cartridgeTokens = work.held.tokenCount * work.prompts.length;
    this.warning = request.hasSystemMessage && work.held.handles.length > 0 ? SYSTEM_WARNING : undefined;
    this.#parts = work.parts;
    this.#held = work.held;
    this.#trace = work.trace;
    this.#controller = work.controller;
    this.#prompts = work.prompts;
    this.#open = work.prompts.length * request.choices;
  }

  /**
   * Holds the cartridges, tokenises the prompts and queues all choices. Rejects with a `RequestError` for what is wrong with the
   * request, and with `CANCELLED`. `signal` is the request's: when its sender is gone, the work stops.
   */
  static async start(request: AnswerRequest, parts: AnswerParts, caller: Caller, signal: AbortSignal): Promise<Answer> {
    const trace = parts.observer.began(caller);
    const controller = new AbortController();
    let held: HeldCartridges | undefined;
    try {
      checkBias(request, parts.model);
      const choice = chooseCartridges(request.names, parts.model.name);
      held = await holdCartridges(choice, parts.library, caller, signal);
      const behindCartridge = held.handles.length > 0;
      const prompts = blaming(request.promptParam, () => request.encode(behindCartridge));
      const answer = new Answer(request, { parts, held, trace, controller, prompts });
      answer.#submit(caller.scope, signal);
      return answer;
    } catch (error) {
      controller.abort(error);
      held?.release();
      trace.failed(toCartridgesError(error), { promptTokens: 0, cachedTokens: 0, completionTokens: 0 });
      throw error;
    }
  }

  /** Complete when all tokens have been read. */
  get usage(): AnswerUsage {
    const sum = (counts: readonly (number | undefined)[]) => counts.reduce<number>((total, count = 0) => total + count, 0);
    return {
      promptTokens: sum(this.#prompts.map((prompt) => prompt.length)),
      cachedTokens: sum(this.#cachedTokens),
      completionTokens: this.#completionTokens,
    };
  }

  /** The tokens of all choices as they come, once. Throws what made the answer fail. */
  get tokens(): AsyncIterableIterator<ChoiceToken, void, undefined> & Pick<TokenQueue<ChoiceToken>, 'take'> {
    return this.#queue;
  }

  /** Nobody waits for the rest. */
  cancel(reason?: unknown): void {
    this.#controller.abort(reason);
  }

  #submit(scope: string, signal: AbortSignal): void {
    const { choices, promptParam } = this.request;
    signal.addEventListener('abort', () => this.cancel(signal.reason), { signal: this.#controller.signal });
    if (signal.aborted) this.cancel(signal.reason);
    try {
      for (const [prompt, tokens] of this.#prompts.entries()) {
        for (let choice = prompt * choices; choice < (prompt + 1) * choices; choice++) {
          const generation = this.#generation(tokens, choice, scope);
          blaming(promptParam, () => this.#parts.model.engine.submit(generation, this.#listener(prompt, choice)));
        }
      }
    } catch (error) {
      // Those that were submitted before are cancelled, and nothing of it concerns anybody.
      this.#isOver = true;
      throw error;
    }
  }

  #generation(prompt: Int32Array, choice: number, scope: string): GenerationRequest {
    const { sampling, seed, stop, topLogprobs, grammar, ignoreEndOfGeneration, choices } = this.request;
    return {
      prompt,
      cartridges: this.#held.handles,
      scope,
      // Choices of one prompt read it once.
      ...(choices > 1 && { sharedPrefixTokens: prompt.length }),
      maxTokens: this.request.maxTokens ?? this.#room(prompt),
      sampling: { ...sampling, seed: choiceSeed(seed, choice) },
      stop,
      draft: this.#draft,
      ignoreEndOfGeneration,
      signal: this.#controller.signal,
      ...(topLogprobs !== undefined && { topLogprobs }),
      ...(grammar !== undefined && { grammar }),
    };
  }

  /** Guesses from the text of the first cartridge that has one. No token is chosen by them. */
  get #draft(): DraftSource {
    const { drafts } = this.#parts;
    const id = this.#held.ids.find((each) => drafts.has(each));
    return id === undefined ? OWN_TOKENS : drafts.get(id)!;
  }

  /** New tokens when the request does not say how many; at least one, so that the engine says what is too long. */
  #room(prompt: Int32Array): number {
    const { engine } = this.#parts.model;
    // The last token of an answer is never read, so it needs no row.
    const room = engine.maxSequenceTokens - this.#held.tokenCount - prompt.length + 1;
    return Math.max(1, Math.min(room, this.#parts.limits.defaultAnswerTokens));
  }

  #listener(prompt: number, choice: number): GenerationListener {
    return {
      token: (generated) => this.#take(prompt, { choice, generated }),
      end: () => {
        const { aborted, reason } = this.#controller.signal;
        if (--this.#open === 0) this.#end(aborted ? reason : undefined);
      },
      fail: (error) => this.#end(error),
    };
  }

  #take(prompt: number, token: ChoiceToken): void {
    if (this.#isOver || this.#controller.signal.aborted) return;
    this.#completionTokens++;
    this.#trace.token(token.choice);
    const reused = token.generated.usage?.cachedPromptTokens;
    if (reused !== undefined) this.#cachedTokens[prompt] = Math.min(this.#cachedTokens[prompt] ?? reused, reused);
    this.#queue.push(token);
    if (this.#queue.size > this.#parts.limits.maxUnreadTokens) this.cancel(tooSlow());
  }

  #end(thrown?: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const { signal } = this.#controller;
    const error = thrown === undefined ? undefined : this.#failure(thrown);
    if (!signal.aborted) this.#controller.abort();
    this.#held.release();
    if (error) this.#trace.failed(toCartridgesError(error), this.usage);
    else this.#trace.finished(this.usage);
    this.#queue.end(error);
  }

  /** Why the answer broke off: what was thrown, or why it was cancelled. */
  #failure(thrown: unknown): unknown {
    const { aborted, reason } = this.#controller.signal;
    if (aborted) return new CartridgesError('CANCELLED', 'the answer was cancelled', { cause: reason });
    return toRefusal(thrown, this.request.promptParam);
  }
}

const SYSTEM_WARNING = 'a system message stands behind the cartridge: its training never saw one there';

interface Work {
  parts: AnswerParts;
  held: HeldCartridges;
  trace: AnswerTrace;
  controller: AbortController;
  prompts: readonly Int32Array[];
}

/** Why a stream is broken off whose reader does not keep up. */
export function tooSlow(): RequestError {
  return new RequestError(408, 'the reader of the stream is too slow');
}

function checkBias({ sampling }: AnswerRequest, { engine }: ServedModel): void {
  const { vocabularySize } = engine.tokenizer;
  const wrong = [...(sampling.logitBias?.keys() ?? [])].find((token) => token >= vocabularySize);
  if (wrong !== undefined) throw refusal('logit_bias', `token id ${wrong} is outside the vocabulary of ${vocabularySize}`);
}
