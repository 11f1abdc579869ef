import { CartridgesError } from '../../core/errors.js';
import type { LlamaContext } from '../../native/handles.js';
import type { Llama } from '../../native/llama.js';
import { LogitsMemory } from './logits-memory.js';

/** The logits of a context, until its next decode. They must not outlive the context. */
export class LogitsViews {
  readonly memory: LogitsMemory;
  readonly #llama: Pick<Llama, 'llama_get_logits_ith'>;
  readonly #context: LlamaContext;

  constructor(llama: Pick<Llama, 'llama_get_logits_ith'>, context: LlamaContext, vocabularySize: number) {
    this.memory = new LogitsMemory(vocabularySize);
    this.#llama = llama;
    this.#context = context;
  }

  /** Behind row `row` of the last decode. Throws `ENGINE_FAILURE` where it did not ask for any. */
  at(row: number): Float32Array {
    return this.memory.at(this.addressOf(row));
  }

  /** Where they lie. Throws as {@link at}. */
  addressOf(row: number): bigint {
    const address = this.#llama.llama_get_logits_ith(this.#context, row);
    if (address !== null) return address;
    throw new CartridgesError('ENGINE_FAILURE', `the engine gave no logits for row ${row} of a batch`);
  }
}
