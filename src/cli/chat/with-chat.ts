import { serverApiKey } from '../../core/environment.js';
import { CartridgesError } from '../../core/errors.js';
import type { RunOptions } from '../../core/progress.js';
import type { ChatBackend } from '../../pipeline/chat-backend.js';
import type { ChatSession } from '../../pipeline/chat-session.js';
import type { Settings } from '../../pipeline/settings.js';
import { withSession } from '../with-session.js';
import { cartridgePaths } from './cartridge-names.js';

export interface ChatFlags {
  /** `--cartridge`, as often as it was given. */
  cartridges: readonly string[];
  allowQuantization: boolean;
  /** What the cartridges were made of. */
  text: string | undefined;
  /** Address of a server, in place of the engine in this process. */
  server?: string;
  /** `--model`: the server's model. */
  serverModel?: string;
}

type Body = (chat: ChatSession) => Promise<void>;

/** Opens what a chat talks to, and frees it when `body` is done. */
export async function withChat(flags: ChatFlags, settings: Settings, run: RunOptions, body: Body): Promise<void> {
  const talk = (backend: ChatBackend, first: string | undefined) => withBackend(backend, first, settings, run, body);
  if (flags.server !== undefined) {
    const backend = await connect(flags.server, flags, run);
    await talk(backend, flags.cartridges[0]);
    return;
  }
  const paths = cartridgePaths(flags.cartridges);
  await withSession(settings, run, async (session) => {
    const { openCartridge } = await import('../../pipeline/open-cartridge.js');
    const { EngineChatBackend } = await import('../../pipeline/engine-chat-backend.js');
    const open = async (name: string) => (await openCartridge(paths.get(name) ?? name, session, flags)).cartridge;
    const names = [...paths.keys()];
    await talk(new EngineChatBackend({ session, names, open, text: flags.text }), names[0]);
  });
}

async function connect(url: string, { cartridges, serverModel }: ChatFlags, run: RunOptions): Promise<ChatBackend> {
  if (cartridges.length > 1) {
    throw new CartridgesError('INVALID_OPTION', 'more than one --cartridge is given with --server', {
      hint: 'the server knows its cartridges: name the first one, and switch with /cartridge',
    });
  }
  const { OpenAiServer } = await import('../../chat/openai-server.js');
  const { ServerChatBackend } = await import('../../pipeline/server-chat-backend.js');
  const server = new OpenAiServer({
    url,
    apiKey: serverApiKey(),
    onRetry: (message) => run.onProgress?.({ kind: 'warning', stage: 'answer', message }),
  });
  return ServerChatBackend.connect(server, serverModel, run.signal);
}

async function withBackend(
  backend: ChatBackend,
  cartridge: string | undefined,
  { chat: { maxTokens, temperature }, seed }: Settings,
  { signal }: RunOptions,
  body: Body,
): Promise<void> {
  const { ChatSession } = await import('../../pipeline/chat-session.js');
  const chat = new ChatSession({ backend, maxTokens, sampling: { temperature, ...(temperature > 0 && { seed }) } });
  try {
    if (cartridge !== undefined) await chat.use(cartridge, signal);
    await body(chat);
  } finally {
    await chat.dispose();
  }
}
