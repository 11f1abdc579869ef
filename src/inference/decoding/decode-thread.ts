import { MessageChannel } from 'node:worker_threads';
import { toCartridgesError } from '../../core/errors.js';
import { WorkerThread } from '../../core/worker-thread.js';
import type { Engine } from '../../native/engine.js';
import type { ChoiceRequests } from './choice-task.js';
import type { DecodeRequests } from './decode-requests.js';
import { RowClaims } from './row-claims.js';

export type DecodeThread = WorkerThread<DecodeRequests>;

/** Most threads that choose tokens: they are asked one after the other, which takes 0.02 ms each with 32 rows and 0.06 with 128. */
const MOST_CHOOSING_THREADS = 8;

let thread: DecodeThread | undefined;
/** That help the thread; none until they are worth while. */
let helpers: readonly WorkerThread<ChoiceRequests>[] = [];
/** Most of them that were asked for. */
let asked = 0;

/**
 * The thread that decodes, one batch of this process after the other: two at a time would wait for each other's threads after every
 * operation. It is a thread of its own and none of Node's, because it has its own processor where there are enough (see
 * `Threadpool`), which the work of others must not inherit. One that has ended is started anew. Throws `ENGINE_FAILURE` when it
 * cannot be.
 */
export function decodeThread({ files }: Engine): DecodeThread {
  if (thread && !thread.hasFailed) return thread;
  const { base, ggml, llama } = files;
  dismissHelpers();
  asked = 0;
  thread = new WorkerThread({
    entry: new URL('./decode-worker.js', import.meta.url),
    data: { libraries: { base, ggml, llama } },
    name: 'the thread that decodes',
    hints: { start: 'free some memory, or allow more threads', stop: 'the next request starts it anew' },
  });
  return thread;
}

/**
 * Gives the thread that decodes others that choose tokens with it, so that at least `threads` do. They are started here: a thread that the
 * decode thread starts would be tied to its processor.
 */
export function provideChoiceHelpers(decoder: DecodeThread, threads: number): void {
  const count = Math.min(threads, MOST_CHOOSING_THREADS) - 1;
  if (count <= asked) return;
  asked = count;
  dismissHelpers();
  helpers = startHelpers(count);
  const claims = new RowClaims().shared;
  const ports = helpers.map((helper) => {
    const { port1, port2 } = new MessageChannel();
    // One that ends takes no rows, and the others choose them.
    helper.request('help', { port: port1, claims }, [port1]).catch(() => undefined);
    return port2;
  });
  decoder.request('haveHelpers', { ports, claims }, ports).catch(() => undefined);
}

function dismissHelpers(): void {
  for (const helper of helpers) helper.close();
  helpers = [];
}

/** Fewer, and a warning, where the system allows no more threads. */
function startHelpers(count: number): WorkerThread<ChoiceRequests>[] {
  const started: WorkerThread<ChoiceRequests>[] = [];
  try {
    while (started.length < count) started.push(startHelper());
  } catch (error) {
    process.emitWarning(toCartridgesError(error).message);
  }
  return started;
}

function startHelper(): WorkerThread<ChoiceRequests> {
  return new WorkerThread({
    entry: new URL('./choice-worker.js', import.meta.url),
    name: 'a thread that helps to choose tokens',
    hints: { start: 'free some memory, or allow more threads', stop: 'tokens are chosen without it' },
  });
}
