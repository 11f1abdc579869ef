/** Turns text into the token ids of one vocabulary and back. */
export interface Tokenizer {
  readonly vocabularySize: number;
  /** Token ids of `text`. Marks of special tokens inside the text stay text unless `parseSpecial` is set. No token is added. */
  encode(text: string, options?: { parseSpecial?: boolean }): Int32Array;
  /** The text of `tokens`; special tokens are left out unless `special` is set. */
  decode(tokens: ArrayLike<number>, options?: { special?: boolean }): string;
  /** The bytes of one token; they may end inside a UTF-8 character. Control tokens have none unless `special` is set. */
  tokenBytes(token: number, options?: { special?: boolean }): Uint8Array;
  /** Whether the token ends a generation (end of turn, end of text). */
  isEndOfGeneration(token: number): boolean;
}
