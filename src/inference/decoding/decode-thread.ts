import { MessageChannel } from 'node:worker_threads';
import { toCartridgesError } from '../../core/errors.js';
import { WorkerThread } from '../../core/worker-thread.js';
import type { Engine } from '../../native/engine.js';
import type { ChoiceRequests } from './choice-task.js';
import type { DecodeRequests } from './decode-requests.js';
import { RowClaims } from './row-claims.js';

export type DecodeThread = WorkerThread<DecodeRequests>;

/** Most threads that choose tokens. To ask one of them takes up to 0.05 ms, and seven are asked one after the other. */
const MOST_CHOOSING_THREADS = 8;

let thread: DecodeThread | undefined;
/** That help the thread; undefined until they were worth while. */
let helpers: readonly WorkerThread<ChoiceRequests>[] | undefined;

/**
 * The thread that decodes, one batch of this process after the other: two at a time would wait for each other's threads after every
 * operation. It is a thread of its own and none of Node's, because it has its own processor where there are enough (see
 * `Threadpool`), which the work of others must not inherit. One that has ended is started anew. Throws `ENGINE_FAILURE` when it
 * cannot be.
 */
export function decodeThread({ files }: Engine): DecodeThread {
  if (thread && !thread.hasFailed) return thread;
  const { base, ggml, llama } = files;
  for (const helper of helpers ?? []) helper.close();
  helpers = undefined;
  thread = new WorkerThread({
    entry: new URL('./decode-worker.js', import.meta.url),
    data: { libraries: { base, ggml, llama } },
    name: 'the thread that decodes',
    hints: { start: 'free some memory, or allow more threads', stop: 'the next request starts it anew' },
  });
  return thread;
}

/**
 * Gives the thread that decodes others that choose tokens with it, so that `threads` do, the first time that is asked for. They are started
 * here: a thread that the decode thread starts would be tied to its processor.
 */
export function provideChoiceHelpers(decoder: DecodeThread, threads: number): void {
  const count = Math.min(threads, MOST_CHOOSING_THREADS) - 1;
  if (count < 1 || helpers) return;
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

/** None, and a warning, where the system allows no more threads: one chooses all tokens then. */
function startHelpers(count: number): WorkerThread<ChoiceRequests>[] {
  try {
    return Array.from({ length: count }, startHelper);
  } catch (error) {
    process.emitWarning(toCartridgesError(error).message);
    return [];
  }
}

function startHelper(): WorkerThread<ChoiceRequests> {
  return new WorkerThread({
    entry: new URL('./choice-worker.js', import.meta.url),
    name: 'a thread that helps to choose tokens',
    hints: { start: 'free some memory, or allow more threads', stop: 'tokens are chosen without it' },
  });
}
