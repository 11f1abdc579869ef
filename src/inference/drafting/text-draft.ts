import type { Drafter, DraftSource, Guess } from './draft-source.js';
import { LONGEST_MATCH, SuffixIndex } from './suffix-index.js';

/** Tokens of a text that are looked at; an index of them takes 16 MiB. */
const MAX_TEXT_TOKENS = 1 << 20;

/**
 * Guesses that a request goes on as its own prompt and answer did before, or as a text does that it may quote. The index of the
 * text is made once, for all requests; what is behind its first 2^20 tokens is left out.
 */
export class TextDraft implements DraftSource {
  readonly #text: SuffixIndex | undefined;

  constructor(text?: Int32Array) {
    if (text) this.#text = indexOf(text.subarray(0, MAX_TEXT_TOKENS), 0);
  }

  follow(prompt: Int32Array, newTokens: number): Drafter {
    return new TextDrafter(prompt, newTokens, this.#text);
  }
}

/** For answers that may quote what stands before them and no other text. */
export const OWN_TOKENS: DraftSource = new TextDraft();

class TextDrafter implements Drafter {
  readonly #own: SuffixIndex;
  readonly #text: SuffixIndex | undefined;
  readonly #recent: number[];

  constructor(prompt: Int32Array, newTokens: number, text: SuffixIndex | undefined) {
    this.#own = indexOf(prompt, newTokens);
    this.#text = text;
    this.#recent = [...prompt.subarray(-LONGEST_MATCH)];
  }

  add(token: number): void {
    this.#own.add(token);
    this.#recent.push(token);
    if (this.#recent.length > LONGEST_MATCH) this.#recent.shift();
  }

  guess(count: number): Guess {
    const own = this.#own.guess(this.#recent, count);
    const text = this.#text?.guess(this.#recent, count);
    return text && text.matched > own.matched ? text : own;
  }
}

function indexOf(tokens: Int32Array, moreTokens: number): SuffixIndex {
  const index = new SuffixIndex(tokens.length + moreTokens);
  for (const token of tokens) index.add(token);
  return index;
}
