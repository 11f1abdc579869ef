import { workerData } from 'node:worker_threads';
import { type RequestHandler, serveRequests } from '../core/serve-requests.js';
import type { WorkerMessage } from '../core/worker-requests.js';
import type { DecodeRequests, DecodeStart } from './decode-requests.js';
import type { GgmlThreadpool } from './handles.js';
import { koffi } from './koffi.js';
import { bindLlama, type Llama } from './llama.js';
import { openGgml } from './open-ggml.js';
import { blockSignals } from './signals.js';
import './structs.js';

const createPrototype = koffi.proto('void *cartridges_threadpool_new(ggml_threadpool_params *params)');

/** The entry of the decode thread. */
class DecodeWorker implements RequestHandler<DecodeRequests> {
  readonly #llama: Pick<Llama, 'llama_decode' | 'llama_synchronize'>;

  constructor({ libraries }: DecodeStart) {
    openGgml(libraries);
    this.#llama = bindLlama(koffi.load(libraries.llama, { global: true }));
  }

  handle(request: WorkerMessage<DecodeRequests>): DecodeRequests[keyof DecodeRequests]['answer'] {
    if (request.kind === 'startThreadpool') {
      return { threadpool: koffi.call(request.create, createPrototype, request.params) as GgmlThreadpool | null };
    }
    const { context, batch } = request;
    const status = this.#llama.llama_decode(context, batch);
    // A GPU may compute longer; whoever asks for logits first would wait for it, on the event loop.
    this.#llama.llama_synchronize(context);
    return { status };
  }
}

// The main thread handles signals, and threads that are started here get none either.
blockSignals();
serveRequests<DecodeRequests>('the thread that decodes', () => new DecodeWorker(workerData));
