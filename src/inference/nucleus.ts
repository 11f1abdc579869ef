import { sumAbove, sumOfExponentials } from './log-sum-exp.js';

/**
 * The tokens that top-p keeps: the best ones, until they have the share `topP` of the mass (Holtzman et al., 2020). Says of single
 * tokens whether they are among them, without an order of all.
 */
export class Nucleus {
  /** Σ exp((logit − largest) · scale) over all tokens. */
  readonly total: number;
  readonly #logits: Float32Array;
  readonly #largest: number;
  readonly #scale: number;
  readonly #topP: number;
  /** Every token above the first of these is known to be in it, every one below the second to be out. */
  #lowestKept = Number.POSITIVE_INFINITY;
  #highestLeftOut = Number.NEGATIVE_INFINITY;

  constructor(logits: Float32Array, largest: number, scale: number, topP: number) {
    this.#logits = logits;
    this.#largest = largest;
    this.#scale = scale;
    this.#topP = topP;
    this.total = topP < 1 ? sumOfExponentials(logits, largest, scale) : Number.POSITIVE_INFINITY;
  }

  /** exp((logit − largest) · scale) */
  weightOf(token: number): number {
    return Math.exp(((this.#logits[token] as number) - this.#largest) * this.#scale);
  }

  has(token: number): boolean {
    const logit = this.#logits[token] as number;
    if (this.#topP === 1 || logit > this.#lowestKept) return true;
    if (logit < this.#highestLeftOut) return false;
    const isKept = this.#massBefore(token, logit) < this.#topP * this.total;
    if (isKept) this.#lowestKept = Math.min(this.#lowestKept, logit);
    else this.#highestLeftOut = Math.max(this.#highestLeftOut, logit);
    return isKept;
  }

  /** What better tokens weigh; of equal logits the lower id is the better. */
  #massBefore(token: number, logit: number): number {
    let ties = 0;
    for (let other = 0; other < token; other++) if (this.#logits[other] === logit) ties++;
    return sumAbove(logit, this.#logits, this.#largest, this.#scale) + ties * this.weightOf(token);
  }
}
