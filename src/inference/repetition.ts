/** Tokens of the longest passage whose repetition is seen. */
const LONGEST_PASSAGE = 64;
/** How often a passage must come again, and how many tokens must be nothing else, before it counts: a list or a table may be even. */
const RETURNS = 2;
const REPEATED_TOKENS = 48;

/**
 * Sees when a text does nothing any more but say its last passage again. A greedy generation never leaves such a loop but by
 * rounding, and small models end many of their answers in one.
 */
export class RepetitionWatch {
  readonly #tokens: number[] = [];
  /** For each length of a passage, how many of the last tokens are those that stood so far before them. */
  readonly #repeated = new Uint32Array(LONGEST_PASSAGE + 1);

  /** Takes the next token; true when the text repeats itself. */
  note(token: number): boolean {
    const tokens = this.#tokens;
    const repeated = this.#repeated;
    let repeats = false;
    for (let length = 1; length <= LONGEST_PASSAGE; length++) {
      const isSame = tokens[tokens.length - length] === token;
      repeated[length] = isSame ? (repeated[length] as number) + 1 : 0;
      repeats ||= (repeated[length] as number) >= Math.max(REPEATED_TOKENS, RETURNS * length);
    }
    tokens.push(token);
    return repeats;
  }
}
