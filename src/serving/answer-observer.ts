import type { CartridgesError } from '../core/errors.js';
import type { Caller } from './caller.js';

/** What an answer cost; counted when it is over, also when it was broken off. */
export interface AnswerUsage {
  promptTokens: number;
  /** Prompt tokens that were reused. */
  cachedTokens: number;
  completionTokens: number;
}

/** Follows one answer of one or more choices; every call is made at the moment that it reports. */
export interface AnswerTrace {
  /** A new token of a choice came; the first call is the time to first token. */
  token(choice: number): void;
  finished(usage: AnswerUsage): void;
  /** It was refused, failed, or nobody waits for it any more (`CANCELLED`). */
  failed(error: CartridgesError, usage: AnswerUsage): void;
}

/** Whoever counts answers: metrics and the token rates of keys. */
export interface AnswerObserver {
  began(caller: Caller): AnswerTrace;
}
