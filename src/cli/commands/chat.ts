import { createInterface } from 'node:readline';
import type { Command } from '@commander-js/extra-typings';
import { CartridgesError } from '../../core/errors.js';
import type { RunOptions } from '../../core/progress.js';
import type { ChatSession } from '../../pipeline/chat-session.js';
import { Conversation } from '../chat/conversation.js';
import { withChat } from '../chat/with-chat.js';
import { printableLines } from '../format.js';
import { collect, SettingOption, withSettingsOptions } from '../options.js';
import type { Output } from '../output.js';
import { runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';

/** Questions that the arrow keys bring back. */
const HISTORY_LINES = 1000;

/** `cartridges chat`: ask a cartridge, one question or a conversation, with the engine here or a server. */
export function addChatCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program
      .command('chat')
      .description('ask a cartridge')
      .argument('[question]', 'one question; without it a conversation starts')
      .option('--cartridge <file>', 'cartridge file, or name=file, repeatable; with --server its name there', collect)
      .option('--corpus <path>', 'the text: /compare reads it, and answers that quote it come sooner')
      .option('--server <url>', "a server with OpenAI's API in place of a model here; CARTRIDGES_API_KEY holds its key")
      .addOption(new SettingOption('--max-tokens <n>', 'chat.maxTokens', 'longest answer'))
      .addOption(new SettingOption('--temperature <t>', 'chat.temperature', 'randomness of the answers; 0 is none'))
      .option('--allow-quantization', 'take a cartridge of another quantisation of the same model'),
  ).action((question, { cartridge: cartridges = [], corpus, server, allowQuantization = false }, command) =>
    runCommand(
      terminal,
      command,
      async ({ output, settings: resolve, run }) => {
        refuseConversationOptions(question, { corpus, json: command.getOptionValue('json') === true });
        const settings = await resolve();
        const text = corpus === undefined ? undefined : await readText(corpus, run);
        const serverModel = command.getOptionValue('model') as string | undefined;
        await withChat({ cartridges, allowQuantization, text, server, serverModel }, settings, run, async (chat) => {
          if (question !== undefined) await answerOnce(chat, question, output, run.signal);
          else await converse(chat, text, output, terminal, run.signal);
        });
      },
      'nothing is kept of a conversation',
    ),
  );
}

/** What only one of the two ways to ask has a use for. */
function refuseConversationOptions(
  question: string | undefined,
  { corpus, json }: { corpus: string | undefined; json: boolean },
) {
  if (question !== undefined && corpus !== undefined) {
    throw new CartridgesError(
      'INVALID_OPTION',
      '--corpus is for /compare in a conversation, and a question alone does not read it',
      {
        hint: 'leave the question out and ask it with /compare, or measure the full text with cartridges evaluate',
      },
    );
  }
  if (question === undefined && json) {
    throw new CartridgesError('INVALID_OPTION', '--json prints the answer to one question, and there is none', {
      hint: 'cartridges chat --json … "QUESTION"',
    });
  }
}

async function readText(path: string, run: RunOptions): Promise<string> {
  const { openResource } = await import('../../corpus/open-resource.js');
  const { readCorpus } = await import('../../corpus/read-corpus.js');
  return (await readCorpus(await openResource(path, run.onProgress), run.signal)).text;
}

async function answerOnce(chat: ChatSession, question: string, output: Output, signal: AbortSignal): Promise<void> {
  let answer = '';
  for await (const text of chat.ask(question, signal)) answer += text;
  output.result({ question, answer }, () => printableLines(answer));
}

/** Lines can be edited, and brought back with the arrow keys, when they come from a terminal. */
async function converse(
  chat: ChatSession,
  corpusText: string | undefined,
  output: Output,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const lines = createInterface({
    input: process.stdin,
    output: process.stderr,
    terminal: process.stdin.isTTY === true && process.stderr.isTTY === true,
    historySize: HISTORY_LINES,
    removeHistoryDuplicates: true,
  });
  await new Conversation({ chat, lines, output, terminal, corpusText, signal }).run();
}
