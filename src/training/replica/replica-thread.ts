import { WorkerThread } from '../../core/worker-thread.js';
import type { Requests, WorkerStart } from './protocol.js';

export type ReplicaThread = WorkerThread<Requests>;

/** Throws `ENGINE_FAILURE` when it cannot be started. */
export function startReplicaThread(start: WorkerStart): ReplicaThread {
  return new WorkerThread<Requests>({
    entry: new URL('./replica-worker.js', import.meta.url),
    data: start,
    name: 'a thread of the training step',
    hints: {
      start: 'training.workers needs as many threads as it says; training.step=graph needs none of its own',
      stop: 'the last checkpoint is kept and --resume continues from it; training.step=graph trains without threads of its own',
    },
  });
}
