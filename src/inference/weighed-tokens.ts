import type { TopCandidates } from './top-logprobs.js';

/** The tokens of one choice. Each weighs exp((logit − largest) · scale), so the best one weighs 1; the best ones are weighed at once. */
export class WeighedTokens {
  readonly logits: Float32Array;
  readonly largest: number;
  readonly scale: number;
  /** Of the best tokens, by falling weight. */
  readonly weights: Float64Array;
  /** What these weigh together. */
  readonly mass: number;
  readonly #candidates: TopCandidates;

  /** The best `count` are taken from the candidates, which stay as they are while this is used. */
  constructor(logits: Float32Array, candidates: TopCandidates, count: number, scale: number) {
    this.logits = logits;
    this.largest = candidates.logits[0] as number;
    this.scale = scale;
    this.#candidates = candidates;
    this.weights = new Float64Array(candidates.logits.subarray(0, count)).map((logit) => this.#weigh(logit));
    this.mass = this.weights.reduce((sum, weight) => sum + weight, 0);
  }

  weightOf(token: number): number {
    return this.#weigh(this.logits[token] as number);
  }

  /** Whether a token is one of the best `count` that are weighed: of equal logits the lower id is the better. */
  isAmongBest(token: number, count: number): boolean {
    const { ids, logits } = this.#candidates;
    const [logit, worst] = [this.logits[token] as number, logits[count - 1] as number];
    return logit > worst || (logit === worst && token <= (ids[count - 1] as number));
  }

  /** The best token but `rank`. */
  at(rank: number): number {
    return this.#candidates.ids[rank] as number;
  }

  #weigh(logit: number): number {
    return Math.exp((logit - this.largest) * this.scale);
  }
}
