import type { Cartridge } from '../cartridge/cartridge.js';
import type { Sampling } from '../chat/chat-client.js';
import { CartridgesError } from '../core/errors.js';
import type { Message } from '../core/message.js';
import type { CartridgeHandle } from '../inference/cartridge-handle.js';
import type { InferenceEngine } from '../inference/inference-engine.js';
import type { ModelSession } from './model-session.js';

export interface ChatSessionOptions {
  session: ModelSession;
  /** What the answers come from; without one the model answers alone. */
  cartridge?: Cartridge;
  maxTokens?: number;
  sampling?: Sampling;
}

const DEFAULT_MAX_TOKENS = 512;
/** Room for the history of a conversation, when the model has it. */
const HISTORY_TOKENS = 4_096;

/** A conversation with a model behind a cartridge, turn by turn. */
export class ChatSession {
  readonly #session: ModelSession;
  readonly #engine: InferenceEngine;
  readonly #handle: CartridgeHandle | undefined;
  readonly #maxTokens: number;
  readonly #sampling: Sampling;
  #messages: Message[] = [];

  private constructor(options: ChatSessionOptions, engine: InferenceEngine, handle: CartridgeHandle | undefined) {
    this.#session = options.session;
    this.#engine = engine;
    this.#handle = handle;
    this.#maxTokens = options.maxTokens ?? DEFAULT_MAX_TOKENS;
    this.#sampling = options.sampling ?? { temperature: 0 };
  }

  static async start(options: ChatSessionOptions): Promise<ChatSession> {
    const { session, cartridge } = options;
    const history = Math.min(HISTORY_TOKENS, session.config.contextLength - (cartridge?.tokenCount ?? 0));
    const engine = await session.createEngine({ contextTokens: (cartridge?.tokenCount ?? 0) + history, maxRequests: 1 });
    return new ChatSession(options, engine, cartridge && (await engine.loadCartridge(cartridge)));
  }

  /** The turns so far. */
  get messages(): readonly Message[] {
    return this.#messages;
  }

  /**
   * Asks and yields the answer's text as it comes; an answer that is broken off leaves the history as it was.
   * Throws `CONTEXT_OVERFLOW` when the conversation has become too long.
   */
  async *ask(question: string, signal?: AbortSignal): AsyncGenerator<string> {
    const messages: Message[] = [...this.#messages, { role: 'user', content: question }];
    const prompt = this.#session.framing.encodeTurns(messages, { addGenerationPrompt: true, bos: this.#handle === undefined });
    const room = this.#engine.maxSequenceTokens - (this.#handle?.tokenCount ?? 0) - prompt.length;
    if (room < 1) {
      throw new CartridgesError('CONTEXT_OVERFLOW', `the conversation has ${prompt.length} tokens and no room for an answer`, {
        hint: 'start over with /clear, or take turns back with /undo',
      });
    }
    const tokens: number[] = [];
    let text = '';
    const request = {
      prompt,
      maxTokens: Math.min(this.#maxTokens, room),
      sampling: this.#sampling,
      ...(this.#handle && { cartridges: [this.#handle] }),
      ...(signal && { signal }),
    };
    for await (const generated of this.#engine.generate(request)) {
      tokens.push(generated.token);
      text += generated.text;
      yield generated.text;
    }
    this.#messages = [...messages, { role: 'assistant', content: text, tokenIds: Int32Array.from(tokens) }];
  }

  /** Takes the last question and its answer back. */
  undo(): void {
    this.#messages = this.#messages.slice(0, -2);
  }

  clear(): void {
    this.#messages = [];
  }

  async dispose(): Promise<void> {
    await this.#engine.dispose();
  }
}
