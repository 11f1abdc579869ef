import type { Sampling, Usage } from '../chat/chat-client.js';
import { CartridgesError } from '../core/errors.js';
import type { TopLogprobs } from '../core/sparse-logprobs.js';
import type { CartridgeHandle } from './cartridge-handle.js';
import type { DraftSource } from './drafting/draft-source.js';

/** What stands before the tokens of a request. */
export interface RequestContext {
  /** Loaded cartridges, in order; the tokens stand behind them. */
  cartridges?: readonly CartridgeHandle[];
  /** This many first tokens are those of other requests too, such as a system message: they are computed once. */
  sharedPrefixTokens?: number;
  /**
   * Whose request it is. Tokens are only shared, and turns only reused, inside a scope; scopes take turns when many wait. By
   * default all requests are of one scope.
   */
  scope?: string;
  signal?: AbortSignal;
}

export interface GenerationRequest extends RequestContext {
  prompt: Int32Array;
  /** Most tokens to generate, the end token included. */
  maxTokens: number;
  sampling: Sampling;
  /** Texts that end the generation; they and what follows are left out of the text, not out of the tokens. */
  stop?: readonly string[];
  /** Log-probabilities of every token, and of the most probable ones: this many. 0 gives the token's own alone. */
  topLogprobs?: number;
  /** A grammar in GBNF that the text must match; the generation can only end where it is complete. Its root is `root`. */
  grammar?: string;
  /**
   * Guesses what comes next, so that several tokens can be computed at once. Only greedy requests are guessed; their tokens and
   * log-probs are the same but for what rounding makes of other batches.
   */
  draft?: DraftSource;
  /** End, as at the limit, once the text does nothing any more but repeat itself. */
  endRepetition?: boolean;
  /** Go on behind the end of a turn, as a benchmark wants. */
  ignoreEndOfGeneration?: boolean;
}

export type FinishReason = 'stop' | 'length';

export interface GeneratedToken {
  token: number;
  /** Text that is certain with this token: none while a character is unfinished or a stop string may be forming. */
  text: string;
  /** Natural log-probability before temperature and filters; there when the request asks for log-probs. */
  logprob?: number;
  topLogprobs?: TopLogprobs;
  /** On the last token. */
  finishReason?: FinishReason;
  usage?: Usage;
}

export interface Timings {
  /** From the submission to the first new token. */
  timeToFirstTokenMs: number;
  /** From the first computed row to the first new token. */
  promptMs: number;
  /** From the first new token to the last. */
  decodeMs: number;
  /** New tokens behind the first one; 0 when there is none. */
  decodeTokensPerSecond: number;
}

export interface Completion {
  /** The end token included, when it was generated. */
  tokens: Int32Array;
  text: string;
  finishReason: FinishReason;
  /** A row for each token; empty unless the request asks for log-probs. */
  logprobs: Float32Array;
  topLogprobs: TopLogprobs[];
  usage: Usage;
  timings: Timings;
}

/** Reads tokens without generating and hands their logits out. */
export interface ReadRequest extends RequestContext {
  tokens: Int32Array;
  /** Rows from this one on give logits. */
  firstLogitsRow: number;
  /** Called in order; the view is only good during the call. */
  onLogits(logits: Float32Array, row: number): void;
}

/** Throws `INVALID_OPTION` or `INVALID_INPUT`: an id outside the vocabulary would end in an engine failure. */
export function checkTokens(tokens: Int32Array, vocabularySize: number): void {
  if (tokens.length === 0) throw new CartridgesError('INVALID_INPUT', 'a request has no tokens to read');
  const wrong = tokens.find((token) => token < 0 || token >= vocabularySize);
  if (wrong === undefined) return;
  throw new CartridgesError('INVALID_INPUT', `token id ${wrong} is outside the vocabulary of ${vocabularySize}`);
}

export function checkGeneration(request: GenerationRequest, vocabularySize: number): void {
  const { maxTokens, topLogprobs = 0, stop = [], sampling } = request;
  checkCount('the number of new tokens', maxTokens, 1, Number.MAX_SAFE_INTEGER);
  checkCount('the number of top log-probs', topLogprobs, 0, vocabularySize);
  for (const token of sampling.logitBias?.keys() ?? []) checkCount('a token id with a bias', token, 0, vocabularySize - 1);
  if (stop.includes('')) throw new CartridgesError('INVALID_OPTION', 'a stop string is empty');
}

export function checkCount(what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new CartridgesError('INVALID_OPTION', `${what} is ${value}, not a whole number from ${least} to ${most}`);
}
