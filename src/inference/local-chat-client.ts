import type { ChatClient, ChatRequest, ChatResponse } from '../chat/chat-client.js';
import type { Message } from '../core/message.js';
import { toSparseLogprobs } from '../core/sparse-logprobs.js';
import type { CartridgeHandle } from './cartridge-handle.js';
import { commonLength } from './common-length.js';
import type { DraftSource } from './drafting/draft-source.js';
import type { InferenceEngine } from './inference-engine.js';

/** How chats become tokens: what {@link LocalChatClient} needs of the model's framing. */
export interface ChatEncoder {
  /** The whole chat, with its system message or the template's default one. */
  encodeChat(messages: readonly Message[], options: { addGenerationPrompt: boolean }): Int32Array;
  /** The turns without any system text. */
  encodeTurns(messages: readonly Message[], options: { addGenerationPrompt: boolean; bos: boolean }): Int32Array;
}

export interface LocalChatClientOptions {
  engine: InferenceEngine;
  framing: ChatEncoder;
  /** They stand where the system message would: chats must not have one. */
  cartridges?: readonly CartridgeHandle[];
  /** Leave out the template's default system text: what a model without any context reads. */
  turnsOnly?: boolean;
  /** Guesses of greedy answers. */
  draft?: DraftSource;
}

/** Chats whose prefix length is remembered; a prefix costs two encodings of its system message to find. */
const MAX_KNOWN_PREFIXES = 256;

/**
 * Chats with a model in this process. A call turns its chat into tokens and queues it at once, so calls of one tick run in one
 * batch, in their order. Chats with the same system message share its rows.
 */
export class LocalChatClient implements ChatClient {
  readonly capabilities: ChatClient['capabilities'];
  readonly #options: LocalChatClientOptions;
  readonly #prefixLengths = new Map<string, number>();

  constructor(options: LocalChatClientOptions) {
    this.#options = options;
    this.capabilities = { topLogprobs: options.engine.tokenizer.vocabularySize, tokenIds: true, cartridges: true };
  }

  /**
   * The assistant's next message. Rejects with `INVALID_INPUT` for a chat that the framing refuses, `CONTEXT_OVERFLOW` for one
   * that does not fit, and `CANCELLED`.
   */
  async chat(request: ChatRequest, signal?: AbortSignal): Promise<ChatResponse> {
    const { messages, maxTokens, sampling, stop, topLogprobs, minProbabilityMass, endRepetition } = request;
    const { engine, cartridges, draft } = this.#options;
    const prompt = this.#encode(messages);
    const completion = await engine.complete({
      prompt,
      maxTokens,
      sampling,
      sharedPrefixTokens: this.#sharedPrefix(messages, prompt),
      cartridges,
      stop,
      topLogprobs,
      draft,
      endRepetition,
      signal,
    });
    return {
      text: completion.text,
      finishReason: completion.finishReason,
      tokenIds: completion.tokens,
      topLogprobs: topLogprobs ? toSparseLogprobs(completion.topLogprobs, topLogprobs, minProbabilityMass) : undefined,
      usage: completion.usage,
    };
  }

  together<T>(run: () => Promise<T>): Promise<T> {
    return this.#options.engine.together(run);
  }

  #encode(messages: readonly Message[]): Int32Array {
    const { framing, cartridges, turnsOnly = false } = this.#options;
    if (cartridges?.length) return framing.encodeTurns(messages, { addGenerationPrompt: true, bos: false });
    if (turnsOnly) return framing.encodeTurns(messages, { addGenerationPrompt: true, bos: true });
    return framing.encodeChat(messages, { addGenerationPrompt: true });
  }

  /** How many first tokens of the prompt do not depend on the turns. */
  #sharedPrefix(messages: readonly Message[], prompt: Int32Array): number {
    const system = messages.filter(({ role }) => role === 'system');
    if (system.length === 0) return 0;
    const key = JSON.stringify(system.map(({ content }) => content));
    const known = this.#prefixLengths.get(key);
    if (known !== undefined) return Math.min(known, prompt.length);
    // Two chats that differ in their first turn have in common what every chat with this system message begins with.
    const [first, second] = ['a', 'b'].map((content) => this.#encode([...system, { role: 'user', content }])) as [
      Int32Array,
      Int32Array,
    ];
    const length = commonLength(first, second);
    if (this.#prefixLengths.size >= MAX_KNOWN_PREFIXES) this.#prefixLengths.clear();
    this.#prefixLengths.set(key, length);
    return Math.min(length, prompt.length);
  }
}
