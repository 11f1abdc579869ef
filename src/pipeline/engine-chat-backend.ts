import type { Cartridge } from '../cartridge/cartridge.js';
import type { ChatPiece } from '../chat/chat-client.js';
import { CartridgesError } from '../core/errors.js';
import type { Message } from '../core/message.js';
import type { CartridgeHandle } from '../inference/cartridge-handle.js';
import type { DraftSource } from '../inference/drafting/draft-source.js';
import { OWN_TOKENS, TextDraft } from '../inference/drafting/text-draft.js';
import type { InferenceEngine } from '../inference/inference-engine.js';
import type { AnswerRequest, ChatBackend, ChatContext } from './chat-backend.js';
import type { ModelSession } from './model-session.js';

export interface EngineChatBackendOptions {
  session: ModelSession;
  /** Names that are offered; {@link EngineChatBackendOptions.open} may know others, such as paths. */
  names: readonly string[];
  /** Reads a cartridge and checks that it belongs to the model. */
  open(name: string): Promise<Cartridge>;
  /** What the cartridges were made of, if it is at hand: greedy answers that quote it come sooner. */
  text?: string;
}

interface OpenedCartridge {
  name: string;
  cartridge: Cartridge;
  /** In the cache of the engine. */
  handle?: CartridgeHandle;
}

/** Room for turns to come, so that the cache is not made anew for each of them. */
const SPARE_TOKENS = 4_096;

/**
 * A conversation with the engine in this process. Rows of earlier turns are kept between answers, and one cartridge at a time.
 * The cache is made for the first answer, and made anew, larger, when a conversation outgrows it.
 */
export class EngineChatBackend implements ChatBackend {
  readonly #options: EngineChatBackendOptions;
  readonly #draft: DraftSource;
  #engine: InferenceEngine | undefined;
  #opened: OpenedCartridge | undefined;

  constructor(options: EngineChatBackendOptions) {
    const { session, text } = options;
    this.#options = options;
    this.#draft = text === undefined ? OWN_TOKENS : new TextDraft(session.tokenizer.encode(text));
  }

  async cartridges(): Promise<readonly string[]> {
    return this.#options.names;
  }

  /** Rejects as {@link EngineChatBackendOptions.open} does; the cartridge before stays in use then. */
  async prepare(name: string): Promise<string> {
    await this.#open(name);
    return name;
  }

  async *answer({ context, messages, maxTokens, sampling }: AnswerRequest, signal?: AbortSignal): AsyncGenerator<ChatPiece> {
    const opened = context.kind === 'cartridge' ? await this.#open(context.name) : undefined;
    const cartridgeTokens = opened?.cartridge.tokenCount ?? 0;
    const prompt = this.#encode(context, messages);
    const room = this.#options.session.config.contextLength - cartridgeTokens - prompt.length;
    if (room < 1) throw tooLong(context, prompt.length);
    const newTokens = Math.min(maxTokens, room);
    const engine = await this.#engineFor(prompt.length + newTokens);
    const cartridges = opened && [await load(engine, opened)];
    for await (const { token, text, finishReason, usage } of engine.generate({
      prompt,
      maxTokens: newTokens,
      sampling,
      cartridges,
      draft: this.#draft,
      signal,
    })) {
      yield { text, tokenId: token, finishReason, usage: usage && { ...usage, cartridgeTokens } };
    }
  }

  async dispose(): Promise<void> {
    const engine = this.#engine;
    this.#engine = undefined;
    if (this.#opened) delete this.#opened.handle;
    await engine?.dispose();
  }

  /** The one before leaves the cache when the new one could be read. */
  async #open(name: string): Promise<OpenedCartridge> {
    const before = this.#opened;
    if (before?.name === name) return before;
    const opened: OpenedCartridge = { name, cartridge: await this.#options.open(name) };
    this.#opened = opened;
    if (before?.handle) await this.#engine?.unloadCartridge(before.handle);
    return opened;
  }

  /** Behind nothing the turns stand alone: a template's default system text would be a context too. */
  #encode(context: ChatContext, messages: readonly Message[]): Int32Array {
    const { framing } = this.#options.session;
    const behindCartridge = context.kind === 'cartridge';
    if (context.kind !== 'text') return framing.encodeTurns(messages, { addGenerationPrompt: true, bos: !behindCartridge });
    return framing.encodeChat([{ role: 'system', content: context.text }, ...messages], { addGenerationPrompt: true });
  }

  /** An engine with cells for the opened cartridge and for this many tokens beside it. */
  async #engineFor(tokens: number): Promise<InferenceEngine> {
    const { session } = this.#options;
    const rows = this.#opened?.cartridge.tokenCount ?? 0;
    if (this.#engine && this.#engine.contextTokens >= rows + tokens) return this.#engine;
    await this.dispose();
    const contextTokens = rows + Math.min(tokens + SPARE_TOKENS, session.config.contextLength);
    this.#engine = await session.createEngine({ contextTokens, maxRequests: 1, retainTurns: true });
    return this.#engine;
  }
}

async function load(engine: InferenceEngine, opened: OpenedCartridge): Promise<CartridgeHandle> {
  opened.handle ??= await engine.loadCartridge(opened.cartridge);
  return opened.handle;
}

function tooLong({ kind }: ChatContext, tokens: number): CartridgesError {
  const what = kind === 'text' ? 'the full text with the question' : 'the conversation';
  return new CartridgesError('CONTEXT_OVERFLOW', `${what} has ${tokens} tokens and no room for an answer`, {
    hint: kind === 'text' ? 'it is longer than the model can read' : 'start over with /clear, or take turns back with /undo',
  });
}
