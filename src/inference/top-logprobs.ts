import type { TopLogprobs } from '../core/sparse-logprobs.js';

/**
 * Finds the k largest logits in one pass: candidates sit in a heap whose root is the worst of them, so that nearly every logit
 * costs one comparison. Of equal logits the one with the lower token id is the better. The arrays are reused.
 */
export class TopCandidates {
  /** By falling logit after {@link select}; the first `count` hold. */
  ids = new Int32Array(0);
  logits = new Float32Array(0);
  count = 0;

  /** Fills the candidates with the `k` largest of `logits`; NaN is passed over. */
  select(logits: Float32Array, k: number): void {
    if (this.ids.length < k) {
      this.ids = new Int32Array(k);
      this.logits = new Float32Array(k);
    }
    this.#scan(logits, this.#fill(logits, k));
    this.#sort();
  }

  /** Makes a heap of the first `k` numbers; returns the token after them. */
  #fill(logits: Float32Array, k: number): number {
    let id = 0;
    this.count = 0;
    for (; id < logits.length && this.count < k; id++) {
      const logit = logits[id] as number;
      if (Number.isNaN(logit)) continue;
      this.ids[this.count] = id;
      this.logits[this.count++] = logit;
    }
    for (let slot = (this.count >> 1) - 1; slot >= 0; slot--) {
      this.#sink(slot, this.count, this.ids[slot] as number, this.logits[slot] as number);
    }
    return id;
  }

  /** Four at a time: hardly any logit passes the threshold, so one test for all four is the fastest. */
  #scan(logits: Float32Array, start: number): void {
    const length = logits.length;
    let threshold = this.logits[0] as number;
    let id = start;
    for (; id + 3 < length; id += 4) {
      const a = logits[id] as number;
      const b = logits[id + 1] as number;
      const c = logits[id + 2] as number;
      const d = logits[id + 3] as number;
      if (a > threshold || b > threshold || c > threshold || d > threshold) threshold = this.#offer(logits, id, id + 4);
    }
    this.#offer(logits, id, length);
  }

  /**
   * Puts what is better than the worst candidate in its place; returns the new worst logit. A later token has the higher id,
   * so of two equal logits the one that is there already stays.
   */
  #offer(logits: Float32Array, start: number, end: number): number {
    for (let id = start; id < end; id++) {
      const logit = logits[id] as number;
      if (logit > (this.logits[0] as number)) this.#sink(0, this.count, id, logit);
    }
    return this.logits[0] as number;
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
