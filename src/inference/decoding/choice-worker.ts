import type { MessagePort } from 'node:worker_threads';
import { type RequestHandler, serveRequests } from '../../core/serve-requests.js';
import type { WorkerMessage } from '../../core/worker-requests.js';
import { blockSignals } from '../../native/signals.js';
import { TopCandidates } from '../top-logprobs.js';
import { type ChoiceRequests, type ChoiceTask, chooseUnclaimed } from './choice-task.js';
import { LogitsMemory } from './logits-memory.js';
import { RowClaims } from './row-claims.js';

/** The entry of a thread that helps to choose tokens. */
class ChoiceWorker implements RequestHandler<ChoiceRequests> {
  readonly #candidates = new TopCandidates();
  #memory = new LogitsMemory(0);
  #port: MessagePort | undefined;

  handle({ port, claims: shared }: WorkerMessage<ChoiceRequests>): ChoiceRequests['help']['answer'] {
    const claims = new RowClaims(shared);
    this.#port = port;
    port.on('message', (task: ChoiceTask) => this.#help(task, claims, port));
    return {};
  }

  dispose(): void {
    this.#port?.close();
  }

  #help(task: ChoiceTask, claims: RowClaims, port: MessagePort): void {
    if (this.#memory.vocabularySize !== task.vocabularySize) this.#memory = new LogitsMemory(task.vocabularySize);
    chooseUnclaimed(task, claims, this.#memory, this.#candidates, (share) => port.postMessage(share));
  }
}

// The main thread handles signals.
blockSignals();
serveRequests<ChoiceRequests>('a thread that helps to choose tokens', () => new ChoiceWorker());
