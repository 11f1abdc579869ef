/** What may come next, as it once followed the tokens that a request ends with. */
export interface Guess {
  /** None when nothing is known to follow. The view lasts. */
  readonly tokens: Int32Array;
  /** How many last tokens of the request the guess rests on. */
  readonly matched: number;
}

/** Guesses the tokens of requests. A wrong guess costs time; no token is chosen by a guess. */
export interface DraftSource {
  /** Follows a request from its prompt on; it has at most `newTokens` tokens of its own. */
  follow(prompt: Int32Array, newTokens: number): Drafter;
}

/** Guesses for one request. */
export interface Drafter {
  /** Takes the next token of the request. */
  add(token: number): void;
  /** At most `count` tokens that may come next. */
  guess(count: number): Guess;
}
