import { Random, uniformAt } from '../core/random.js';
import type { WeighedTokens } from './weighed-tokens.js';

/**
 * One draw as a race: each token arrives after an exponential time with its weight as the rate, so it is the first with the
 * probability that it has by its weight, and the first of some with the one that it has among these (the Gumbel-max trick,
 * Papandreou and Yuille, 2011, without its logarithms). What is random about a time follows from the seed and the token alone.
 * Rounding moves the times by as little as the logits, and hardly ever changes who is first; the borders between tokens that lie
 * side by side on a line would all move with those before them.
 */
export class TokenRace {
  readonly #tokens: WeighedTokens;
  readonly #seed: number;
  /** Of the best tokens, as they are ranked. */
  readonly #times: Float64Array;

  constructor(tokens: WeighedTokens, seed: number) {
    this.#tokens = tokens;
    this.#seed = seed;
    this.#times = tokens.weights.map((weight, rank) => exponential(uniformAt(seed, tokens.at(rank))) / weight);
  }

  firstAmongBest(count: number): number {
    return this.#tokens.at(this.#firstRank(count));
  }

  /**
   * The first of all tokens, without those below the best that are not kept. No other weighs more than the worst of the best: so all
   * of them arrive as if they weighed that, in one row, and each goes on as much later as it weighs less. The row is over soon: none
   * behind the first arrival comes before it.
   */
  firstOfAll(isKept: (token: number) => boolean = () => true): number {
    const tokens = this.#tokens;
    const { length } = tokens.logits;
    const count = tokens.weights.length;
    const rank = this.#firstRank(count);
    let [first, firstTime] = [tokens.at(rank), this.#times[rank] as number];
    if (count === length) return first;
    const random = new Random(this.#seed);
    const worst = tokens.weights[count - 1] as number;
    for (let time = 0; ; ) {
      time += exponential(1 - random.uniform()) / length;
      if (!(time < firstTime * worst)) return first;
      const token = random.integer(length);
      const arrival = time / tokens.weightOf(token);
      if (arrival < firstTime && !tokens.isAmongBest(token, count) && isKept(token)) [first, firstTime] = [token, arrival];
    }
  }

  #firstRank(count: number): number {
    return this.#times
      .subarray(0, count)
      .reduce((first, time, rank, times) => (time < (times[first] as number) ? rank : first), 0);
  }
}

/** An exponential number of rate 1 from a uniform one above 0. */
function exponential(uniform: number): number {
  return -Math.log(uniform);
}
