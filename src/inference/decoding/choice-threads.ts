import { MessageChannel } from 'node:worker_threads';
import { toCartridgesError } from '../../core/errors.js';
import { WorkerThread } from '../../core/worker-thread.js';
import type { ChoiceRequests } from './choice-task.js';
import type { DecodeThread } from './decode-thread.js';
import { RowClaims } from './row-claims.js';

/** Most threads that choose tokens: they are asked one after the other, which takes 0.02 ms each with 32 rows and 0.06 with 128. */
const MOST_CHOOSING_THREADS = 8;

type ChoiceThread = WorkerThread<ChoiceRequests>;

/** The threads that help, whom, and how many were wanted. */
let helping: { decoder: DecodeThread; wanted: number; threads: readonly ChoiceThread[] } | undefined;

/**
 * Gives the thread that decodes others that choose tokens with it, so that at least `threads` do. They are started on this thread: one that
 * the decode thread starts would be tied to its processor.
 */
export function provideChoiceHelpers(decoder: DecodeThread, threads: number): void {
  const wanted = Math.min(threads, MOST_CHOOSING_THREADS) - 1;
  if (wanted < 1 || (helping?.decoder === decoder && helping.wanted >= wanted)) return;
  for (const thread of helping?.threads ?? []) thread.close();
  helping = { decoder, wanted, threads: startThreads(wanted) };
  const claims = new RowClaims().shared;
  const ports = helping.threads.map((thread) => {
    const { port1, port2 } = new MessageChannel();
    // One that ends takes no rows, and the others choose them.
    thread.request('help', { port: port1, claims }, [port1]).catch(() => undefined);
    return port2;
  });
  decoder.request('haveHelpers', { ports, claims }, ports).catch(() => undefined);
}

/** Fewer, and a warning, where the system allows no more threads. */
function startThreads(count: number): ChoiceThread[] {
  const started: ChoiceThread[] = [];
  try {
    while (started.length < count) started.push(startThread());
  } catch (error) {
    process.emitWarning(toCartridgesError(error).message);
  }
  return started;
}

function startThread(): ChoiceThread {
  return new WorkerThread({
    entry: new URL('./choice-worker.js', import.meta.url),
    name: 'a thread that helps to choose tokens',
    hints: { start: 'free some memory, or allow more threads', stop: 'tokens are chosen without it' },
  });
}
