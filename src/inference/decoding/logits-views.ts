import { CartridgesError } from '../../core/errors.js';
import type { LlamaContext } from '../../native/handles.js';
import { viewMemory } from '../../native/koffi.js';
import type { Llama } from '../../native/llama.js';

/** Logits come at few addresses, again and again; more than this means that the engine moved its buffer. */
const MAX_VIEWS = 4096;

/** The logits of a context as arrays over its own memory, until its next decode. They must not outlive the context. */
export class LogitsViews {
  readonly #llama: Pick<Llama, 'llama_get_logits_ith'>;
  readonly #context: LlamaContext;
  readonly #vocabularySize: number;
  readonly #views = new Map<bigint, Float32Array>();

  constructor(llama: Pick<Llama, 'llama_get_logits_ith'>, context: LlamaContext, vocabularySize: number) {
    this.#llama = llama;
    this.#context = context;
    this.#vocabularySize = vocabularySize;
  }

  /** Behind row `row` of the last decode. Throws `ENGINE_FAILURE` where it did not ask for any. */
  at(row: number): Float32Array {
    const address = this.#llama.llama_get_logits_ith(this.#context, row);
    if (address === null) throw new CartridgesError('ENGINE_FAILURE', `the engine gave no logits for row ${row} of a batch`);
    const known = this.#views.get(address);
    if (known) return known;
    if (this.#views.size >= MAX_VIEWS) this.#views.clear();
    const view = new Float32Array(viewMemory(address, this.#vocabularySize * Float32Array.BYTES_PER_ELEMENT));
    this.#views.set(address, view);
    return view;
  }
}
