import type { Guess } from './draft-source.js';

/** Tokens that are compared at most: a longer match does not make a guess better. */
export const LONGEST_MATCH = 8;
/** A shorter match says too little. */
const SHORTEST_MATCH = 2;
/** Places that are compared for one guess. */
const MAX_PLACES = 32;
const NOWHERE = -1;

export const NO_GUESS: Guess = { tokens: new Int32Array(0), matched: 0 };

/**
 * Finds where the last tokens of a request occur in a text. Places with the same pair of tokens are chained from the latest one
 * to the earlier ones, as compressors do it, and a few of them are compared: a look takes the same time in a text of any length.
 * It takes 12 to 16 bytes for each token that it has room for.
 */
export class SuffixIndex {
  readonly #tokens: Int32Array;
  /** For the place of a pair's second token: the earlier place whose pair has the same hash. */
  readonly #earlier: Int32Array;
  /** By the hash of a pair: its latest place. */
  readonly #latest: Int32Array;
  readonly #hashShift: number;
  #length = 0;

  /** Has room for `capacity` tokens. */
  constructor(capacity: number) {
    const hashBits = Math.ceil(Math.log2(Math.max(capacity, 2)));
    this.#tokens = new Int32Array(capacity);
    this.#earlier = new Int32Array(capacity);
    this.#latest = new Int32Array(1 << hashBits).fill(NOWHERE);
    this.#hashShift = 32 - hashBits;
  }

  add(token: number): void {
    const place = this.#length++;
    this.#tokens[place] = token;
    if (place === 0) return;
    const hash = this.#hash(this.#tokens[place - 1] as number, token);
    this.#earlier[place] = this.#latest[hash] as number;
    this.#latest[hash] = place;
  }

  /** What follows the longest match of the end of `recent`. Of two as long the earlier place counts: more follows it. */
  guess(recent: readonly number[], count: number): Guess {
    if (recent.length < SHORTEST_MATCH) return NO_GUESS;
    let best = NOWHERE;
    let matched = SHORTEST_MATCH;
    let place = this.#latest[this.#hash(recent.at(-2) as number, recent.at(-1) as number)] as number;
    for (let places = 0; place !== NOWHERE && places < MAX_PLACES; places++) {
      const length = this.#matchAt(place, recent);
      if (length >= matched && place + 1 < this.#length) [best, matched] = [place, length];
      place = this.#earlier[place] as number;
    }
    if (best === NOWHERE) return NO_GUESS;
    return { tokens: this.#tokens.subarray(best + 1, Math.min(best + 1 + count, this.#length)), matched };
  }

  #matchAt(place: number, recent: readonly number[]): number {
    const most = Math.min(recent.length, place + 1, LONGEST_MATCH);
    let length = 0;
    while (length < most && this.#tokens[place - length] === recent[recent.length - 1 - length]) length++;
    return length;
  }

  #hash(first: number, second: number): number {
    return Math.imul(Math.imul(first, 0x9e3779b1) + second, 0x85ebca6b) >>> this.#hashShift;
  }
}
