import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** One run of a contestant. */
export interface Run {
  /** Wall time of what is measured. */
  milliseconds: number;
  /** CPU time of the process since it was asked for the run. */
  cpuMilliseconds: number;
  [figure: string]: number;
}

export interface ContestantOptions {
  name: string;
  command: readonly [string, ...string[]];
  environment?: Readonly<Record<string, string>>;
  /** A contestant that is not ready by then (it compiles, say) does not take part. */
  startSeconds: number;
  /** The longest that one run may take. */
  runSeconds: number;
}

/**
 * A process that is measured. It has its own so that its peak memory is its own, and it sleeps on its stdin while others run.
 * It speaks the protocol of `serve-runs.ts`; `peers/torch_step.py` speaks it too.
 */
export class Contestant {
  readonly name: string;
  readonly facts: Record<string, unknown>;
  readonly #options: ContestantOptions;
  readonly #pipe: Pipe;

  private constructor(options: ContestantOptions, pipe: Pipe, facts: Record<string, unknown>) {
    this.name = options.name;
    this.facts = facts;
    this.#options = options;
    this.#pipe = pipe;
  }

  /** Throws an Error with the reason when the process fails or is not ready in time. */
  static async start(options: ContestantOptions): Promise<Contestant> {
    const pipe = new Pipe(options.command, options.environment ?? {});
    const { facts } = await pipe.receive<{ facts: Record<string, unknown> }>(options.startSeconds, 'was not ready');
    return new Contestant(options, pipe, facts);
  }

  async run(): Promise<Run> {
    this.#pipe.request();
    return this.#pipe.receive<Run>(this.#options.runSeconds, 'made no run');
  }

  /** Ends the process; resolves to its peak resident memory. */
  async end(): Promise<{ peakBytes: number }> {
    this.#pipe.endRequests();
    const last = await this.#pipe.receive<{ peakBytes: number }>(this.#options.runSeconds, 'did not end');
    await this.#pipe.closed();
    return last;
  }

  /** Ends the process at once. */
  kill(): void {
    this.#pipe.kill();
  }
}

const KEPT_ERROR_CHARACTERS = 4000;

class Pipe {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #messages: AsyncIterator<string>;
  readonly #closed: Promise<unknown>;
  #errors = '';

  constructor([file, ...args]: readonly [string, ...string[]], environment: Readonly<Record<string, string>>) {
    this.#child = spawn(file, args, { env: { ...process.env, ...environment } });
    this.#messages = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    this.#child.stderr.on('data', (data: Buffer) => {
      this.#errors = `${this.#errors}${data}`.slice(-KEPT_ERROR_CHARACTERS);
    });
    // A process that cannot start says so here; what it leaves unsaid shows as the end of its messages.
    this.#closed = once(this.#child, 'close').catch((error: Error) => {
      this.#errors = error.message;
    });
    this.#child.stdin.on('error', () => this.kill());
  }

  request(): void {
    this.#child.stdin.write('run\n');
  }

  endRequests(): void {
    this.#child.stdin.end();
  }

  async closed(): Promise<void> {
    await this.#closed;
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  async receive<T>(seconds: number, complaint: string): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`it ${complaint} within ${seconds} s`)), seconds * 1000);
    });
    try {
      const line = await Promise.race([this.#messages.next(), timeout]);
      if (line.done) throw await this.#failure();
      return JSON.parse(line.value);
    } catch (error) {
      this.kill();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  async #failure(): Promise<Error> {
    await this.#closed;
    const lines = this.#errors.trim().split('\n');
    const reason = lines.findLast((line) => /error/i.test(line)) ?? lines.at(-1);
    return new Error(reason || `it ended with status ${this.#child.exitCode}`);
  }
}
