import { workerData } from 'node:worker_threads';
import { CartridgesError } from '../../core/errors.js';
import { type RequestHandler, serveRequests } from '../../core/serve-requests.js';
import type { WorkerMessage } from '../../core/worker-requests.js';
import type { GgmlThreadpool, LlamaContext } from '../../native/handles.js';
import { koffi } from '../../native/koffi.js';
import { bindLlama } from '../../native/llama.js';
import { openGgml } from '../../native/open-ggml.js';
import { blockSignals } from '../../native/signals.js';
import '../../native/structs.js';
import { TopCandidates } from '../top-logprobs.js';
import { ChoiceHelpers } from './choice-helpers.js';
import type { DecodeRequests, DecodeStart } from './decode-requests.js';
import { type Choosing, type DecodeFunctions, Decoding } from './decoding.js';

const createPrototype = koffi.proto('void *cartridges_threadpool_new(ggml_threadpool_params *params)');

/** The entry of the decode thread. */
class DecodeWorker implements RequestHandler<DecodeRequests> {
  readonly #llama: DecodeFunctions;
  readonly #choosing: Choosing = { candidates: new TopCandidates(), helpers: undefined };
  readonly #decodings = new Map<LlamaContext, Decoding>();

  constructor({ libraries }: DecodeStart) {
    openGgml(libraries);
    this.#llama = bindLlama(koffi.load(libraries.llama, { global: true }));
  }

  handle(request: WorkerMessage<DecodeRequests>): DecodeRequests[keyof DecodeRequests]['answer'] {
    switch (request.kind) {
      case 'startThreadpool':
        return { threadpool: koffi.call(request.create, createPrototype, request.params) as GgmlThreadpool | null };
      case 'haveHelpers':
        this.#choosing.helpers = new ChoiceHelpers(request.ports, request.claims, this.#choosing.candidates);
        return {};
      case 'openContext':
        this.#decodings.set(request.context, new Decoding(this.#llama, request, this.#choosing));
        return {};
      case 'closeContext':
        this.#decodings.delete(request.context);
        return {};
      case 'decode':
        return this.#decodingOf(request.context).decode(request.batch, request.rules);
      case 'decodeChosen':
        return { decoded: this.#decodingOf(request.context).decodeChosen(request.most) };
    }
  }

  #decodingOf(context: LlamaContext): Decoding {
    const decoding = this.#decodings.get(context);
    if (decoding) return decoding;
    throw new CartridgesError('INTERNAL', 'the thread that decodes does not know the context');
  }
}

// The main thread handles signals, and threads that are started here get none either.
blockSignals();
serveRequests<DecodeRequests>('the thread that decodes', () => new DecodeWorker(workerData));
