import { type TransferListItem, Worker } from 'node:worker_threads';
import { CartridgesError } from './errors.js';
import type { WorkerReply, WorkerRequests } from './worker-requests.js';

/** A clone runs the sources (tests, benchmarks): TypeScript, which Node 20 starts no thread with. This file translates it. */
const TRANSLATOR = new URL('../../scripts/start-worker.mjs', import.meta.url);
const RUNS_SOURCES = import.meta.url.endsWith('.ts');

export interface WorkerThreadOptions {
  /** The compiled file that the thread runs, which calls `serveRequests`. */
  entry: URL;
  /** What the thread finds as its `workerData`. */
  data?: object;
  /** In messages, such as `a thread of the training step`. */
  name: string;
  hints: {
    /** When it cannot be started. */
    start: string;
    /** When it stops before its time. */
    stop: string;
  };
}

interface Pending {
  resolve(answer: never): void;
  reject(error: Error): void;
}

/**
 * A worker thread as the thread sees it that started it. It answers one request after the other, in their order. When it ends, its
 * requests fail, and all later ones. While it has none it keeps no process alive.
 */
export class WorkerThread<Requests extends WorkerRequests<Requests>> {
  readonly #options: WorkerThreadOptions;
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  readonly #pending: Pending[] = [];
  #failure: CartridgesError | undefined;

  /** Throws `ENGINE_FAILURE` when the thread cannot be started. */
  constructor(options: WorkerThreadOptions) {
    this.#options = options;
    this.#worker = start(options);
    this.#worker.on('message', (reply: WorkerReply<Requests>) => this.#receive(reply));
    this.#worker.on('error', (error) => this.#fail(error.message, error));
    this.#ended = new Promise((resolve) => {
      this.#worker.on('exit', (status) => {
        this.#fail(`it ended with status ${status}`);
        resolve();
      });
    });
    this.#worker.unref();
  }

  /** It has ended, or will do nothing more. */
  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  /** Rejects with what the thread threw, and `ENGINE_FAILURE` when it ended. What `transfer` lists is the thread's own from then on. */
  request<Kind extends keyof Requests>(
    kind: Kind,
    request: Requests[Kind]['request'],
    transfer: readonly TransferListItem[] = [],
  ): Promise<Requests[Kind]['answer']> {
    if (this.#failure) return Promise.reject(this.#failure);
    this.#worker.ref();
    this.#worker.postMessage({ kind, ...request }, transfer);
    return new Promise((resolve, reject) => {
      this.#pending.push({ resolve, reject });
    });
  }

  /** Ends the thread after what it does now; its memory may be freed when this resolves. */
  close(): Promise<void> {
    this.#worker.postMessage({ kind: 'close' });
    return this.#ended;
  }

  #receive(reply: WorkerReply<Requests>): void {
    const pending = this.#pending.shift();
    if (this.#pending.length === 0) this.#worker.unref();
    if ('answer' in reply) {
      pending?.resolve(reply.answer as never);
      return;
    }
    const { code, message, hint } = reply.error;
    pending?.reject(new CartridgesError(code, message, hint === undefined ? {} : { hint }));
  }

  #fail(reason: string, cause?: Error): void {
    const { name, hints } = this.#options;
    this.#failure ??= new CartridgesError('ENGINE_FAILURE', `${name} stopped: ${reason}`, { hint: hints.stop, cause });
    for (const { reject } of this.#pending.splice(0)) reject(this.#failure);
    this.#worker.unref();
  }
}

function start({ entry, data, name, hints }: WorkerThreadOptions): Worker {
  try {
    if (!RUNS_SOURCES || !entry.pathname.endsWith('.js')) return new Worker(entry, { workerData: data });
    return new Worker(TRANSLATOR, { workerData: data, argv: [entry.href.replace(/\.js$/, '.ts')] });
  } catch (error) {
    throw new CartridgesError('ENGINE_FAILURE', `${name} cannot be started: ${(error as Error).message}`, {
      hint: hints.start,
      cause: error,
    });
  }
}
