import type { TopLogprobs } from '../core/sparse-logprobs.js';
import { LOGIT_BLOCK, LogitScan } from './logit-scan.js';

/**
 * Finds the k largest logits. The k-th best of the maxima of blocks is a bound that at least k logits reach, so that hardly any block has
 * to be looked through; candidates sit in a heap whose root is the worst of them. Of equal logits the one with the lower token id is
 * the better. The arrays are reused.
 */
export class TopCandidates {
  /** By falling logit after {@link select}; the first `count` hold. */
  ids = new Int32Array(0);
  logits = new Float32Array(0);
  count = 0;
  readonly #scan = new LogitScan();

  /** Fills the candidates with the `k` largest of `logits`; NaN is passed over. */
  select(logits: Float32Array, k: number): void {
    if (this.ids.length < k) {
      this.ids = new Int32Array(k);
      this.logits = new Float32Array(k);
    }
    this.#scan.load(logits);
    const maxima = this.#scan.blockMaxima();
    const bound = this.#largest(maxima, k);
    this.count = 0;
    for (let block = 0; block < maxima.length; block++) {
      if ((maxima[block] as number) < bound) continue;
      this.#offer(logits, block * LOGIT_BLOCK, Math.min((block + 1) * LOGIT_BLOCK, logits.length), bound, k);
    }
    if (this.count < k) this.#makeHeap();
    this.#sort();
  }

  /** log Σ exp of all logits of the last {@link select}, as they were then; NaN when one is. */
  logSumExp(): number {
    return this.#scan.logSumExp(this.logits[0] as number);
  }

  /** The k-th largest of some numbers, −∞ where there are fewer. */
  #largest(numbers: Float32Array, k: number): number {
    if (numbers.length < k) return Number.NEGATIVE_INFINITY;
    this.count = 0;
    this.#offer(numbers, 0, numbers.length, Number.NEGATIVE_INFINITY, k);
    return this.logits[0] as number;
  }

  /**
   * Takes up what is better than the worst candidate, or is at least `bound` where there are fewer than k. A later token has the higher
   * id, so of two equal logits the one that is there already stays.
   */
  #offer(logits: Float32Array, start: number, end: number, bound: number, k: number): void {
    for (let id = start; id < end; id++) {
      const logit = logits[id] as number;
      if (this.count === k) {
        if (logit > (this.logits[0] as number)) this.#sink(0, k, id, logit);
      } else if (logit >= bound) {
        this.ids[this.count] = id;
        this.logits[this.count++] = logit;
        if (this.count === k) this.#makeHeap();
      }
    }
  }

  #makeHeap(): void {
    for (let slot = (this.count >> 1) - 1; slot >= 0; slot--) {
      this.#sink(slot, this.count, this.ids[slot] as number, this.logits[slot] as number);
    }
  }

  /** Heap sort: the worst goes to the end, again and again. */
  #sort(): void {
    const { ids, logits } = this;
    for (let last = this.count - 1; last > 0; last--) {
      const id = ids[last] as number;
      const logit = logits[last] as number;
      ids[last] = ids[0] as number;
      logits[last] = logits[0] as number;
      this.#sink(0, last, id, logit);
    }
  }

  /** Puts an entry into the heap of `size` in place of the one at `slot`. */
  #sink(slot: number, size: number, id: number, logit: number): void {
    const { ids, logits } = this;
    let at = slot;
    for (let child = 2 * at + 1; child < size; child = 2 * at + 1) {
      const sibling = child + 1;
      if (sibling < size && this.#isBetter(ids[child] as number, logits[child] as number, sibling)) child = sibling;
      if (!this.#isBetter(id, logit, child)) break;
      ids[at] = ids[child] as number;
      logits[at] = logits[child] as number;
      at = child;
    }
    ids[at] = id;
    logits[at] = logit;
  }

  #isBetter(id: number, logit: number, slot: number): boolean {
    const other = this.logits[slot] as number;
    return logit > other || (logit === other && id < (this.ids[slot] as number));
  }
}

/** The best `count` candidates as natural-log probabilities, given the log-sum-exp of all logits. */
export function toTopLogprobs(candidates: TopCandidates, count: number, logSumExp: number): TopLogprobs {
  const kept = Math.min(count, candidates.count);
  const logprobs = new Float32Array(kept);
  for (let i = 0; i < kept; i++) logprobs[i] = (candidates.logits[i] as number) - logSumExp;
  return { tokenIds: candidates.ids.slice(0, kept), logprobs };
}
