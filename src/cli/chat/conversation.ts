import type { Interface } from 'node:readline';
import { CartridgesError, toCartridgesError } from '../../core/errors.js';
import type { ChatSession } from '../../pipeline/chat-session.js';
import { reportError } from '../errors.js';
import { printable, printableLines } from '../format.js';
import type { Output } from '../output.js';
import type { Terminal } from '../terminal.js';
import { type ComparedAnswer, compareAnswers, comparedContexts, formatComparison } from './comparison.js';

export interface ConversationOptions {
  chat: ChatSession;
  /** What the user types. */
  lines: Interface;
  /** Gets the answers; everything else goes to the terminal's stderr. */
  output: Output;
  terminal: Terminal;
  /** The text behind the cartridge, to compare with. */
  corpusText?: string;
  /** Ends the conversation. */
  signal: AbortSignal;
}

interface ChatCommand {
  usage: string;
  help: string;
  run(argument: string): void | Promise<void>;
}

/** The argument of `/cartridge` for the model alone. */
const NO_CARTRIDGE = 'none';

/** A conversation on a terminal or through a pipe: a line is a question, or a command when it begins with a slash. */
export class Conversation {
  readonly #options: ConversationOptions;
  readonly #commands: Readonly<Record<string, ChatCommand>>;
  /** Breaks off what is running. */
  #running: AbortController | undefined;
  /** Ctrl-C was the last thing that the user did. */
  #interrupted = false;
  /** Lines may still come; when a pipe has ended, some that were read are still to be answered. */
  #open = true;
  /** The user has quit. */
  #ended = false;

  constructor(options: ConversationOptions) {
    this.#options = options;
    const { chat } = options;
    this.#commands = {
      '/undo': { usage: '/undo', help: 'takes the last question and its answer back', run: () => chat.undo() },
      '/clear': { usage: '/clear', help: 'starts over', run: () => chat.clear() },
      '/cartridge': {
        usage: '/cartridge [NAME]',
        help: `answers come from another cartridge, or from ${NO_CARTRIDGE}; lists them without a name`,
        run: (name) => this.#cancellable((signal) => this.#chooseCartridge(name, signal)),
      },
      '/compare': {
        usage: '/compare QUESTION',
        help: 'asks with the cartridge, with the full text (--corpus), and with nothing',
        run: (question) => this.#cancellable((signal) => this.#compare(question, signal)),
      },
      '/help': { usage: '/help', help: 'shows this', run: () => this.#say(this.#help()) },
      '/quit': { usage: '/quit', help: 'ends', run: () => this.#end() },
    };
  }

  /** Reads lines until they end, or until the user quits. Rejects with `CANCELLED` when the signal ends an answer. */
  async run(): Promise<void> {
    const { lines, signal, chat } = this.#options;
    const close = () => lines.close();
    lines.on('close', () => {
      this.#open = false;
    });
    lines.on('SIGINT', () => this.#interrupt());
    signal.addEventListener('abort', close);
    this.#say(`${describe(chat.cartridge)}; /help shows the commands`);
    this.#prompt();
    for await (const line of lines) {
      await this.#handle(line.trim());
      if (this.#ended) break;
      this.#prompt();
    }
    signal.removeEventListener('abort', close);
    if (!this.#ended && lines.terminal) this.#say('');
  }

  async #handle(line: string): Promise<void> {
    this.#interrupted = false;
    if (line === '') return;
    if (!line.startsWith('/')) return this.#cancellable((signal) => this.#ask(line, signal));
    const [name = '', argument = ''] = line.split(/\s+(.*)/s);
    const command = Object.hasOwn(this.#commands, name) ? this.#commands[name] : undefined;
    if (command) await command.run(argument);
    else this.#say(`there is no ${name}; /help shows the commands`);
  }

  async #ask(question: string, signal: AbortSignal): Promise<void> {
    const { chat, output } = this.#options;
    for await (const text of chat.ask(question, signal)) output.write(printableLines(text));
    output.write('\n');
  }

  async #chooseCartridge(name: string, signal: AbortSignal): Promise<void> {
    const { chat } = this.#options;
    if (name === '') return this.#listCartridges(signal);
    await chat.use(name === NO_CARTRIDGE ? undefined : name, signal);
    this.#say(`now ${describe(chat.cartridge)}`);
  }

  async #listCartridges(signal: AbortSignal): Promise<void> {
    const { chat } = this.#options;
    const mark = (name: string, chosen: boolean) => `${chosen ? '*' : ' '} ${printable(name)}`;
    const names = await chat.cartridges(signal);
    this.#say(
      [...names.map((name) => mark(name, name === chat.cartridge)), mark(NO_CARTRIDGE, chat.cartridge === undefined)].join('\n'),
    );
  }

  async #compare(question: string, signal: AbortSignal): Promise<void> {
    const { chat, corpusText, output, terminal } = this.#options;
    if (question === '')
      throw new CartridgesError('INVALID_INPUT', '/compare needs a question', { hint: '/compare Who has the key?' });
    if (corpusText === undefined) this.#say('without the full text: start chat with --corpus FILE to compare with it');
    const answers: ComparedAnswer[] = [];
    for await (const answer of compareAnswers(chat, question, comparedContexts(chat.cartridge, corpusText), signal)) {
      answers.push(answer);
    }
    output.write(formatComparison(answers, terminal.stdout.columns));
  }

  /** Runs what Ctrl-C can break off. What fails ends its turn, not the conversation. */
  async #cancellable(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { signal, terminal } = this.#options;
    const running = new AbortController();
    this.#running = running;
    try {
      await work(AbortSignal.any([running.signal, signal]));
    } catch (thrown) {
      const error = toCartridgesError(thrown);
      if (error.code !== 'CANCELLED') reportError(error, terminal.stderr, false);
      else if (signal.aborted) throw error;
      else this.#say('\nbroken off; nothing of it is kept');
    } finally {
      this.#running = undefined;
    }
  }

  /** The first Ctrl-C breaks off what is running, the next one ends the conversation. */
  #interrupt(): void {
    this.#running?.abort();
    if (this.#interrupted) this.#end();
    else if (!this.#running) this.#say('\nCtrl-C again, or /quit, ends the conversation');
    if (!this.#running) this.#prompt();
    this.#interrupted = true;
  }

  #end(): void {
    this.#ended = true;
    this.#options.lines.close();
  }

  #prompt(): void {
    const { lines } = this.#options;
    if (this.#open && lines.terminal) lines.prompt(true);
  }

  #say(text: string): void {
    this.#options.terminal.stderr.write(`${text}\n`);
  }

  #help(): string {
    const commands = Object.values(this.#commands);
    const width = Math.max(...commands.map(({ usage }) => usage.length));
    return commands.map(({ usage, help }) => `${usage.padEnd(width)}  ${help}`).join('\n');
  }
}

function describe(cartridge: string | undefined): string {
  return cartridge === undefined ? 'without a cartridge' : `behind ${printable(cartridge)}`;
}
