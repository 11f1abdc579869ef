import type { Tokenizer } from '../../core/tokenizer.js';
import type { GeneratedToken } from '../../inference/requests.js';

/** What OpenAI gives for a probability that is as good as none; JSON has no infinity. */
const LEAST_LOGPROB = -9999;

export interface TokenLogprob {
  /** The token's text; U+FFFD where it holds only a part of a character. */
  token: string;
  /** The token's UTF-8 bytes; null for a special token, which has none. */
  bytes: number[] | null;
  logprob: number;
}

export interface TokenLogprobs extends TokenLogprob {
  /** By falling log-prob. */
  top_logprobs: TokenLogprob[];
}

/** Log-probs of a new token as OpenAI gives them; undefined when the request asks for none, and for the token that ends an answer. */
export function tokenLogprobs(generated: GeneratedToken, tokenizer: Tokenizer, ignoresEnd: boolean): TokenLogprobs | undefined {
  const { token, logprob, topLogprobs } = generated;
  if (logprob === undefined) return undefined;
  if (!ignoresEnd && tokenizer.isEndOfGeneration(token)) return undefined;
  const top = Array.from(topLogprobs?.tokenIds ?? [], (id, index) =>
    describe(id, topLogprobs?.logprobs[index] as number, tokenizer),
  );
  return { ...describe(token, logprob, tokenizer), top_logprobs: top };
}

function describe(token: number, logprob: number, tokenizer: Tokenizer): TokenLogprob {
  const bytes = tokenizer.tokenBytes(token);
  const isSpecial = bytes.length === 0;
  return {
    token: isSpecial ? tokenizer.decode([token], { special: true }) : Buffer.from(bytes).toString(),
    bytes: isSpecial ? null : [...bytes],
    // In one precision, so that the chosen token has the same number here and among the best.
    logprob: Math.max(Math.fround(logprob), LEAST_LOGPROB),
  };
}
