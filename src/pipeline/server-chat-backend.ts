import type { ChatPiece } from '../chat/chat-client.js';
import { listModels, OpenAiChatClient } from '../chat/openai-chat-client.js';
import type { OpenAiServer } from '../chat/openai-server.js';
import { CartridgesError } from '../core/errors.js';
import type { AnswerRequest, ChatBackend, ChatContext } from './chat-backend.js';

/** Models that an error names. */
const NAMED_MODELS = 20;

/** A conversation with a server: its model `BASE`, and `BASE:NAME` behind a cartridge. */
export class ServerChatBackend implements ChatBackend {
  readonly #server: OpenAiServer;
  readonly #base: string;

  private constructor(server: OpenAiServer, base: string) {
    this.#server = server;
    this.#base = base;
  }

  /**
   * Chooses the model: the one that is named, else the only one that the server lists. Rejects with `INVALID_OPTION` when it
   * lists several, and as {@link listModels} does.
   */
  static async connect(server: OpenAiServer, model?: string, signal?: AbortSignal): Promise<ServerChatBackend> {
    return new ServerChatBackend(server, model ?? onlyBase(await listModels(server, signal), server.url));
  }

  async cartridges(signal?: AbortSignal): Promise<string[]> {
    const prefix = `${this.#base}:`;
    const ids = await listModels(this.#server, signal);
    return ids.filter((id) => id.startsWith(prefix)).map((id) => id.slice(prefix.length));
  }

  /** A cartridge by its name or as `BASE:NAME`. Rejects with `NOT_FOUND` when the server does not list it. */
  async prepare(name: string, signal?: AbortSignal): Promise<string> {
    const known = await this.cartridges(signal);
    const short = name.startsWith(`${this.#base}:`) ? name.slice(this.#base.length + 1) : name;
    const found = [name, short].find((candidate) => known.includes(candidate));
    if (found !== undefined) return found;
    throw new CartridgesError('NOT_FOUND', `${this.#server.url} lists no cartridge ${name} of ${this.#base}`, {
      hint: known.length === 0 ? 'it lists none; put one on the server first' : `it lists: ${nameSome(known)}`,
    });
  }

  async *answer({ context, messages, ...rest }: AnswerRequest, signal?: AbortSignal): AsyncGenerator<ChatPiece> {
    const client = new OpenAiChatClient({ server: this.#server, model: this.#modelFor(context) });
    const turns = context.kind === 'text' ? [{ role: 'system' as const, content: context.text }, ...messages] : messages;
    yield* client.stream({ ...rest, messages: turns }, signal);
  }

  async dispose(): Promise<void> {}

  #modelFor(context: ChatContext): string {
    return context.kind === 'cartridge' ? `${this.#base}:${context.name}` : this.#base;
  }
}

/** The model that is no other one behind a cartridge. */
function onlyBase(ids: readonly string[], server: string): string {
  const bases = ids.filter((id) => !ids.some((other) => id.startsWith(`${other}:`)));
  if (bases.length === 1) return bases[0] as string;
  throw new CartridgesError('INVALID_OPTION', `${server} lists ${bases.length === 0 ? 'no' : 'more than one'} model`, {
    hint: bases.length === 0 ? 'name one with --model' : `name one with --model: ${nameSome(bases)}`,
  });
}

function nameSome(names: readonly string[]): string {
  const more = names.length - NAMED_MODELS;
  return `${names.slice(0, NAMED_MODELS).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
