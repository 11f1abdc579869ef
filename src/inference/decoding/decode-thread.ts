import { WorkerThread } from '../../core/worker-thread.js';
import type { Engine } from '../../native/engine.js';
import type { DecodeRequests } from './decode-requests.js';

export type DecodeThread = WorkerThread<DecodeRequests>;

let thread: DecodeThread | undefined;

/**
 * The thread that decodes, one batch of this process after the other: two at a time would wait for each other's threads after every
 * operation. It is a thread of its own and none of Node's, because it has its own processor where there are enough (see
 * `Threadpool`), which the work of others must not inherit. One that has ended is started anew. Throws `ENGINE_FAILURE` when it
 * cannot be.
 */
export function decodeThread({ files }: Engine): DecodeThread {
  if (thread && !thread.hasFailed) return thread;
  const { base, ggml, llama } = files;
  thread = new WorkerThread({
    entry: new URL('./decode-worker.js', import.meta.url),
    data: { libraries: { base, ggml, llama } },
    name: 'the thread that decodes',
    hints: { start: 'free some memory, or allow more threads', stop: 'the next request starts it anew' },
  });
  return thread;
}
