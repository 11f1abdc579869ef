import { Agreement } from './agreement.js';
import type { Drafter, DraftSource } from './draft-source.js';
import { NO_GUESS } from './suffix-index.js';

/** Most tokens that are drafted at once. */
const LONGEST_DRAFT = 16;
/** What a draft must promise: tokens in the time of one without it. Less is lost in what is not known exactly. */
const LEAST_SPEED = 1.08;

/**
 * Decides how much of the guesses for a request is worth computing. Each guess is compared with what comes, whether it was
 * computed or not: a request that stops quoting drafts less and less and then nothing, and begins again when it would have been
 * right. It knows no clock.
 */
export class Speculation {
  readonly #follow: () => Drafter;
  readonly #agreement = new Agreement();
  #drafter: Drafter | undefined;
  #guess = NO_GUESS;
  /** Tokens of the guess that have come. */
  #confirmed = 0;

  constructor(source: DraftSource, prompt: Int32Array, newTokens: number) {
    this.#follow = () => source.follow(prompt, newTokens);
  }

  /** Takes the next token of the request. */
  note(token: number): void {
    const { tokens, matched } = this.#guess;
    if (this.#confirmed < tokens.length) {
      const isRight = tokens[this.#confirmed] === token;
      this.#agreement.note(matched + this.#confirmed, isRight);
      this.#confirmed++;
      if (!isRight) this.#guess = NO_GUESS;
    }
    this.#drafter ??= this.#follow();
    this.#drafter.add(token);
  }

  /** The tokens that may come next, at most `room`, that make the request fastest when each costs `rowCost` of a new token's time. */
  draft(room: number, rowCost: number): Int32Array {
    this.#guess = this.#drafter?.guess(LONGEST_DRAFT) ?? NO_GUESS;
    this.#confirmed = 0;
    const { tokens, matched } = this.#guess;
    let [best, bestSpeed] = [0, LEAST_SPEED];
    let [chance, expected] = [1, 1];
    for (let count = 1; count <= Math.min(room, tokens.length); count++) {
      chance *= this.#agreement.chance(matched + count - 1);
      expected += chance;
      const speed = expected / (1 + count * rowCost);
      if (speed > bestSpeed) [best, bestSpeed] = [count, speed];
    }
    return tokens.subarray(0, best);
  }
}
