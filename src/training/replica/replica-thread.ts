import { Worker } from 'node:worker_threads';
import { CartridgesError } from '../../core/errors.js';
import type { Reply, RequestKind, Requests, WorkerStart } from './protocol.js';

const COMPILED = new URL('./replica-worker.js', import.meta.url);
const SOURCE = new URL('./replica-worker.ts', import.meta.url);
/** A clone runs the sources (tests, benchmarks): TypeScript, which Node 20 starts no thread with. This file translates it. */
const TRANSLATOR = new URL('../../../scripts/start-worker.mjs', import.meta.url);

interface Pending {
  resolve(answer: never): void;
  reject(error: Error): void;
}

/** A worker thread as the main thread sees it: one request at a time. A thread that ends fails its request and all later ones. */
export class ReplicaThread {
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  #pending: Pending | undefined;
  #failure: CartridgesError | undefined;

  constructor(start: WorkerStart, entry: URL = import.meta.url.endsWith('.ts') ? SOURCE : COMPILED) {
    this.#worker = startThread(start, entry);
    this.#worker.on('message', (reply: Reply) => this.#receive(reply));
    this.#worker.on('error', (error) => this.#fail(error.message, error));
    this.#ended = new Promise((resolve) => {
      this.#worker.on('exit', (status) => {
        this.#fail(`it ended with status ${status}`);
        resolve();
      });
    });
    // An idle thread keeps no process alive.
    this.#worker.unref();
  }

  /** Throws what the worker threw, and `ENGINE_FAILURE` when the worker ended. */
  request<Kind extends RequestKind>(kind: Kind, request: Requests[Kind]['request']): Promise<Requests[Kind]['answer']> {
    if (this.#failure) return Promise.reject(this.#failure);
    this.#worker.ref();
    this.#worker.postMessage({ kind, ...request });
    return new Promise((resolve, reject) => {
      this.#pending = { resolve, reject };
    });
  }

  /** Ends the thread after what it does now; its memory may be freed when this resolves. */
  close(): Promise<void> {
    this.#worker.postMessage({ kind: 'close' });
    return this.#ended;
  }

  #receive(reply: Reply): void {
    const pending = this.#settle();
    if ('answer' in reply) {
      pending?.resolve(reply.answer as never);
      return;
    }
    const { code, message, hint } = reply.error;
    pending?.reject(new CartridgesError(code, message, hint === undefined ? {} : { hint }));
  }

  #fail(reason: string, cause?: Error): void {
    this.#failure ??= new CartridgesError('ENGINE_FAILURE', `a thread of the training step stopped: ${reason}`, {
      hint: 'the last checkpoint is kept and --resume continues from it; training.step=graph trains without threads of its own',
      cause,
    });
    this.#settle()?.reject(this.#failure);
  }

  #settle(): Pending | undefined {
    const pending = this.#pending;
    this.#pending = undefined;
    this.#worker.unref();
    return pending;
  }
}

function startThread(start: WorkerStart, entry: URL): Worker {
  try {
    return entry.pathname.endsWith('.ts')
      ? new Worker(TRANSLATOR, { workerData: start, argv: [entry.href] })
      : new Worker(entry, { workerData: start });
  } catch (error) {
    throw new CartridgesError('ENGINE_FAILURE', `a thread of the training step cannot be started: ${(error as Error).message}`, {
      hint: 'training.workers needs as many threads as it says; training.step=graph needs none of its own',
      cause: error,
    });
  }
}
