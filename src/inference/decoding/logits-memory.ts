import { viewMemory } from '../../native/koffi.js';

/** Logits come at few addresses, again and again; more than this means that the engine moved its buffer. */
const MAX_VIEWS = 4096;

/** The logits of rows as arrays over the engine's own memory, valid as long as that is. */
export class LogitsMemory {
  readonly vocabularySize: number;
  readonly #views = new Map<bigint, Float32Array>();

  constructor(vocabularySize: number) {
    this.vocabularySize = vocabularySize;
  }

  at(address: bigint): Float32Array {
    const known = this.#views.get(address);
    if (known) return known;
    if (this.#views.size >= MAX_VIEWS) this.#views.clear();
    const view = new Float32Array(viewMemory(address, this.vocabularySize * Float32Array.BYTES_PER_ELEMENT));
    this.#views.set(address, view);
    return view;
  }
}
