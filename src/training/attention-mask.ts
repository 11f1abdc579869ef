import type { Pack, PackShape } from './pack.js';

/**
 * The mask of a pack as softmax takes it, F32 [slots, slotTokens, p + slotTokens] row-major: 0 where a token may look, −∞
 * elsewhere. Every token sees all p rows of the prefix, itself and the earlier tokens of its own conversation.
 */
export class AttentionMask {
  readonly #shape: PackShape;
  readonly #prefixTokens: number;
  readonly #values: Float32Array;

  constructor(shape: PackShape, prefixTokens: number) {
    this.#shape = shape;
    this.#prefixTokens = prefixTokens;
    this.#values = new Float32Array(shape.slots * shape.slotTokens * (prefixTokens + shape.slotTokens));
  }

  /** The mask of `pack`, in an array that the next call overwrites; the prefix part is 0 from the start and stays so. */
  of(pack: Pack): Float32Array {
    const { slots, slotTokens } = this.#shape;
    const span = this.#prefixTokens + slotTokens;
    for (let slot = 0; slot < slots; slot++) {
      const segments = pack.segments.subarray(slot * slotTokens, (slot + 1) * slotTokens);
      for (let token = 0; token < slotTokens; token++) {
        const start = (slot * slotTokens + token) * span + this.#prefixTokens;
        const own = this.#values.subarray(start, start + slotTokens);
        own.fill(Number.NEGATIVE_INFINITY);
        // Conversations are contiguous within a slot, so what a token sees of its own is one run that ends with itself.
        for (let other = token; other >= 0 && segments[other] === segments[token]; other--) own[other] = 0;
      }
    }
    return this.#values;
  }
}
