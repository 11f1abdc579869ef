import { createInterface, type Interface } from 'node:readline';
import type { Command } from '@commander-js/extra-typings';
import { toCartridgesError } from '../../core/errors.js';
import type { ChatSession } from '../../pipeline/chat-session.js';
import { SettingOption, withSettingsOptions } from '../options.js';
import type { Output } from '../output.js';
import { runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';
import { withSession } from '../with-session.js';

const HELP = '/undo takes the last turn back, /clear starts over, /quit ends';

/** `cartridges chat`: ask a cartridge, one question or a conversation. */
export function addChatCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program
      .command('chat')
      .description('ask a cartridge')
      .argument('[question]', 'one question; without it a conversation starts')
      .option('--cartridge <file>', 'cartridge file; without it the model answers alone')
      .addOption(new SettingOption('--max-tokens <n>', 'chat.maxTokens', 'longest answer'))
      .option('--allow-quantization', 'take a cartridge of another quantisation of the same model'),
  ).action((question, { cartridge: path, allowQuantization = false }, command) =>
    runCommand(
      terminal,
      command,
      async ({ output, settings: resolve, run }) => {
        const settings = await resolve();
        await withSession(settings, run, async (session) => {
          const { openCartridge } = await import('../../pipeline/open-cartridge.js');
          const { ChatSession } = await import('../../pipeline/chat-session.js');
          const opened = path === undefined ? undefined : await openCartridge(path, session, { allowQuantization });
          const chat = await ChatSession.start({
            session,
            maxTokens: settings.chat.maxTokens,
            ...(opened && { cartridge: opened.cartridge }),
          });
          if (question !== undefined) await answerOnce(chat, question, output, run.signal);
          else await converse(chat, output, terminal, run.signal);
        });
      },
      'nothing is kept of a conversation',
    ),
  );
}

async function answerOnce(chat: ChatSession, question: string, output: Output, signal: AbortSignal): Promise<void> {
  let answer = '';
  for await (const text of chat.ask(question, signal)) answer += text;
  output.result({ question, answer }, () => answer);
}

async function converse(chat: ChatSession, output: Output, terminal: Terminal, signal: AbortSignal): Promise<void> {
  terminal.stderr.write(`${HELP}\n`);
  const lines: Interface = createInterface({ input: process.stdin });
  const prompt = () => terminal.stderr.write('> ');
  signal.addEventListener('abort', () => lines.close());
  prompt();
  for await (const line of lines) {
    const text = line.trim();
    if (text === '/quit') break;
    if (text === '/undo') chat.undo();
    else if (text === '/clear') chat.clear();
    else if (text.startsWith('/')) terminal.stderr.write(`${HELP}\n`);
    else if (text !== '') await answerAloud(chat, text, output, terminal, signal);
    prompt();
  }
  lines.close();
}

/** A failed answer ends its turn, not the conversation. */
async function answerAloud(
  chat: ChatSession,
  question: string,
  output: Output,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  try {
    for await (const text of chat.ask(question, signal)) output.write(text);
    output.write('\n');
  } catch (thrown) {
    const error = toCartridgesError(thrown);
    if (error.code === 'CANCELLED') throw error;
    terminal.stderr.write(`error: ${error.message}\n${error.hint ? `  hint: ${error.hint}\n` : ''}`);
  }
}
