import { LONGEST_MATCH } from './suffix-index.js';

/**
 * How often the next token is the guessed one, by how many tokens the guess rests on. Answers of the pocket model and of
 * SmolLM2-135M about texts showed 0.5 for 2, 0.7 for 3 and 4, and up to 0.95 above; a little less makes first drafts short.
 */
const USUAL: readonly number[] = [0, 0, 0.5, 0.7, 0.7, 0.85, 0.85, 0.85, 0.9];
/** For how many observations that stands. */
const USUAL_WEIGHT = 8;
/** What an observation still counts at the next one of its kind: the last 16 or so decide. */
const REMEMBERED = 15 / 16;

/** How good the guesses for one request are. */
export class Agreement {
  readonly #seen = new Float64Array(LONGEST_MATCH + 1);
  readonly #agreed = new Float64Array(LONGEST_MATCH + 1);

  /** The chance that a token guessed from `matched` tokens is right. */
  chance(matched: number): number {
    const kind = Math.min(matched, LONGEST_MATCH);
    const usual = (USUAL[kind] as number) * USUAL_WEIGHT;
    return (usual + (this.#agreed[kind] as number)) / (USUAL_WEIGHT + (this.#seen[kind] as number));
  }

  note(matched: number, isRight: boolean): void {
    const kind = Math.min(matched, LONGEST_MATCH);
    this.#seen[kind] = (this.#seen[kind] as number) * REMEMBERED + 1;
    this.#agreed[kind] = (this.#agreed[kind] as number) * REMEMBERED + Number(isRight);
  }
}
