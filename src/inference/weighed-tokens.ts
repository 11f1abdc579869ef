import type { Random } from '../core/random.js';
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
    this.weights = Float64Array.from({ length: count }, (_, rank) => this.#weigh(candidates.logits[rank] as number));
    this.mass = sumOf(this.weights);
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

  /** One of the best `count`, in proportion to what they weigh. */
  drawAmongBest(count: number, random: Random): number {
    const weights = this.weights.subarray(0, count);
    return this.#tokenAt(random.uniform() * sumOf(weights));
  }

  /**
   * One of all, in proportion to what they weigh, without the sum over all, which takes ten times as long: by rejection (von Neumann,
   * 1951). No other weighs more than the worst of those that are weighed. So each other is drawn as if it weighed as much, and taken
   * with the share of that which it has. With 49 thousand tokens a few draws are turned away.
   */
  drawFromAll(random: Random): number {
    const { logits, weights, mass } = this;
    const worst = weights.at(-1) as number;
    const bound = weights.length < logits.length ? worst * logits.length : 0;
    for (;;) {
      const point = random.uniform() * (mass + bound);
      if (point < mass) return this.#tokenAt(point);
      const token = random.integer(logits.length);
      if (this.isAmongBest(token, weights.length)) continue;
      if (random.uniform() * worst < this.weightOf(token)) return token;
    }
  }

  #weigh(logit: number): number {
    return Math.exp((logit - this.largest) * this.scale);
  }

  /** The first of the best tokens at which the sum of their weights passes `mass`. */
  #tokenAt(mass: number): number {
    let sum = 0;
    const rank = this.weights.findIndex((weight) => {
      sum += weight;
      return sum > mass;
    });
    return this.#candidates.ids[Math.max(rank, 0)] as number;
  }
}

function sumOf(weights: Float64Array): number {
  return weights.reduce((sum, weight) => sum + weight, 0);
}
