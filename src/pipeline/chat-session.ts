import type { Cartridge } from '../cartridge/cartridge.js';
import type { Sampling } from '../chat/chat-client.js';
import type { Message } from '../core/message.js';
import type { ChatBackend, ChatContext } from './chat-backend.js';
import { EngineChatBackend } from './engine-chat-backend.js';
import type { ModelSession } from './model-session.js';
import { type TimedAnswer, timeAnswer } from './timed-answer.js';

export interface ChatSessionOptions {
  backend: ChatBackend;
  maxTokens?: number;
  sampling?: Sampling;
}

const DEFAULT_MAX_TOKENS = 512;
/** The name of a cartridge that has none. */
const UNNAMED = 'cartridge';

/** A conversation turn by turn, behind a cartridge or without one, with the engine or a server. */
export class ChatSession {
  readonly #backend: ChatBackend;
  readonly #maxTokens: number;
  readonly #sampling: Sampling;
  #messages: Message[] = [];
  #cartridge: string | undefined;

  constructor({ backend, maxTokens = DEFAULT_MAX_TOKENS, sampling = { temperature: 0 } }: ChatSessionOptions) {
    this.#backend = backend;
    this.#maxTokens = maxTokens;
    this.#sampling = sampling;
  }

  /**
   * A conversation with the engine in this process, behind a cartridge that was read; without one the model answers alone. For `text`
   * see {@link EngineChatBackendOptions}.
   */
  static async start(
    options: { session: ModelSession; cartridge?: Cartridge; text?: string } & Omit<ChatSessionOptions, 'backend'>,
  ): Promise<ChatSession> {
    const { session, cartridge, text, ...rest } = options;
    const open = async () => cartridge as Cartridge;
    const chat = new ChatSession({
      ...rest,
      backend: new EngineChatBackend({ session, names: cartridge ? [UNNAMED] : [], open, text }),
    });
    if (cartridge) await chat.use(UNNAMED);
    return chat;
  }

  /** The turns so far. */
  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** The name of the cartridge that answers; undefined when the model answers alone. */
  get cartridge(): string | undefined {
    return this.#cartridge;
  }

  /** The names of the cartridges that {@link use} takes; it may take others too. */
  cartridges(signal?: AbortSignal): Promise<readonly string[]> {
    return this.#backend.cartridges(signal);
  }

  /**
   * Answers come from this cartridge from now on, or from the model alone; the turns so far stay. Rejects when the cartridge
   * cannot be used, and the one before stays.
   */
  async use(cartridge: string | undefined, signal?: AbortSignal): Promise<void> {
    this.#cartridge = cartridge === undefined ? undefined : await this.#backend.prepare(cartridge, signal);
  }

  /**
   * Asks and yields the answer's text as it comes; an answer that is broken off leaves the history as it was.
   * Throws `CONTEXT_OVERFLOW` when the conversation has become too long.
   */
  async *ask(question: string, signal?: AbortSignal): AsyncGenerator<string> {
    const messages: Message[] = [...this.#messages, { role: 'user', content: question }];
    const tokens: number[] = [];
    let content = '';
    for await (const { text, tokenId } of this.#backend.answer(this.#request(this.#context, messages), signal)) {
      if (tokenId !== undefined) tokens.push(tokenId);
      content += text;
      if (text !== '') yield text;
    }
    const tokenIds = tokens.length > 0 && { tokenIds: Int32Array.from(tokens) };
    this.#messages = [...messages, { role: 'assistant', content, ...tokenIds }];
  }

  /** Asks a question alone, without the turns so far and without becoming one, behind another context. */
  askAlone(question: string, context: ChatContext, signal?: AbortSignal): Promise<TimedAnswer> {
    return timeAnswer(this.#backend.answer(this.#request(context, [{ role: 'user', content: question }]), signal));
  }

  /** Takes the last question and its answer back. */
  undo(): void {
    this.#messages = this.#messages.slice(0, -2);
  }

  clear(): void {
    this.#messages = [];
  }

  async dispose(): Promise<void> {
    await this.#backend.dispose();
  }

  get #context(): ChatContext {
    return this.#cartridge === undefined ? { kind: 'none' } : { kind: 'cartridge', name: this.#cartridge };
  }

  #request(context: ChatContext, messages: readonly Message[]) {
    return { context, messages, maxTokens: this.#maxTokens, sampling: this.#sampling };
  }
}
