import type { Terminal } from './terminal.js';

/** Results of a command, the only writer to stdout. */
export class Output {
  readonly #terminal: Terminal;
  readonly #json: boolean;

  constructor(terminal: Terminal, json: boolean) {
    this.#terminal = terminal;
    this.#json = json;
  }

  /** The result of a command: with `--json` the value as one line of JSON, else the text. */
  result(value: unknown, toText: () => string): void {
    const text = this.#json ? JSON.stringify(value) : toText();
    this.#terminal.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
  }

  /** Text that comes bit by bit, such as an answer of a chat. */
  write(text: string): void {
    this.#terminal.stdout.write(text);
  }
}
