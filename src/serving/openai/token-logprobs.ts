import type { Tokenizer } from '../../core/tokenizer.js';
import type { GeneratedToken } from '../../inference/requests.js';

/** What OpenAI gives for a probability that is as good as none; JSON has no infinity. */
const LEAST_LOGPROB = -9999;

/** What a token says. */
interface TokenText {
  /** Its text; U+FFFD where it holds only a part of a character. */
  token: string;
  /** Its UTF-8 bytes; null for a special token, which has none. */
  bytes: number[] | null;
}

export interface TokenLogprob extends TokenText {
  logprob: number;
}

export interface TokenLogprobs extends TokenLogprob {
  /** By falling log-prob. */
  top_logprobs: TokenLogprob[];
}

/**
 * Writes log-probs of new tokens as OpenAI gives them. A stream names up to 21 tokens for each new one, so what a token says is kept
 * once it was looked up, at some hundred bytes for a token of the vocabulary: the 21 take 8 µs then, and took 40.
 */
export class LogprobWriter {
  readonly #tokenizer: Tokenizer;
  readonly #texts = new Map<number, TokenText>();

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  /** Undefined when the request asks for none, and for the token that ends an answer. */
  write({ token, logprob, topLogprobs }: GeneratedToken, ignoresEnd: boolean): TokenLogprobs | undefined {
    if (logprob === undefined) return undefined;
    if (!ignoresEnd && this.#tokenizer.isEndOfGeneration(token)) return undefined;
    const top = Array.from(topLogprobs?.tokenIds ?? [], (id, index) => this.#one(id, topLogprobs?.logprobs[index] as number));
    return { ...this.#one(token, logprob), top_logprobs: top };
  }

  #one(id: number, logprob: number): TokenLogprob {
    const { token, bytes } = this.#textOf(id);
    // In one precision, so that the chosen token has the same number here and among the best.
    return { token, bytes, logprob: Math.max(Math.fround(logprob), LEAST_LOGPROB) };
  }

  #textOf(id: number): TokenText {
    const known = this.#texts.get(id);
    if (known) return known;
    const text = this.#lookUp(id);
    this.#texts.set(id, text);
    return text;
  }

  #lookUp(id: number): TokenText {
    const bytes = this.#tokenizer.tokenBytes(id);
    if (bytes.length === 0) return { token: this.#tokenizer.decode([id], { special: true }), bytes: null };
    return { token: Buffer.from(bytes).toString(), bytes: [...bytes] };
  }
}
