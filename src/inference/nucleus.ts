import { sumAbove, sumOfExponentials } from './log-sum-exp.js';
import type { WeighedTokens } from './weighed-tokens.js';

/**
 * The tokens that top-p keeps: the best ones, until they have the share `topP` of the mass (Holtzman et al., 2020). Says of single
 * tokens whether they are among them, without an order of all.
 */
export class Nucleus {
  /** What all tokens weigh together; without a bound where all are kept. */
  readonly total: number;
  readonly #tokens: WeighedTokens;
  readonly #topP: number;
  /** Every token above the first of these is known to be in it, every one below the second to be out. */
  #lowestKept = Number.POSITIVE_INFINITY;
  #highestLeftOut = Number.NEGATIVE_INFINITY;

  constructor(tokens: WeighedTokens, topP: number) {
    const { logits, largest, scale } = tokens;
    this.#tokens = tokens;
    this.#topP = topP;
    this.total = topP < 1 ? sumOfExponentials(logits, largest, scale) : Number.POSITIVE_INFINITY;
  }

  has(token: number): boolean {
    const logit = this.#tokens.logits[token] as number;
    if (this.#topP === 1 || logit > this.#lowestKept) return true;
    if (logit < this.#highestLeftOut) return false;
    const isKept = this.#massBefore(token, logit) < this.#topP * this.total;
    if (isKept) this.#lowestKept = Math.min(this.#lowestKept, logit);
    else this.#highestLeftOut = Math.max(this.#highestLeftOut, logit);
    return isKept;
  }

  /** What better tokens weigh; of equal logits the lower id is the better. */
  #massBefore(token: number, logit: number): number {
    const { logits, largest, scale } = this.#tokens;
    let ties = 0;
    for (let other = 0; other < token; other++) if (logits[other] === logit) ties++;
    return sumAbove(logit, logits, largest, scale) + ties * this.#tokens.weightOf(token);
  }
}
