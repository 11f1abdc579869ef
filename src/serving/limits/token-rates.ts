import { setTimeout } from 'node:timers/promises';
import { RequestError } from '../request-error.js';
import { TokenBucket } from './token-bucket.js';

/** A timer that is set for longer is over at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** Looks up how many tokens a minute a scope may use; undefined is no limit. */
export type TokenRateOf = (scope: string) => number | undefined;

/** Counts the tokens of every key against its rate. */
export class TokenRates {
  readonly #rateOf: TokenRateOf;
  readonly #buckets = new Map<string, { rate: number; bucket: TokenBucket }>();
  readonly #now: () => number;

  constructor(rateOf: TokenRateOf, now: () => number = () => performance.now()) {
    this.#rateOf = rateOf;
    this.#now = now;
  }

  charge(scope: string, tokens: number): void {
    this.#bucketOf(scope)?.charge(tokens, this.#now());
  }

  /** Throws 429 while the scope has used up its tokens. */
  check(scope: string): void {
    const seconds = this.#secondsUntilAllowed(scope);
    if (seconds > 0) throw new RequestError(429, 'the key has used its tokens of this minute', { retryAfterSeconds: seconds });
  }

  /** Resolves when the scope may go on: work that nobody waits at waits itself. Rejects when the signal aborts. */
  async whenAllowed(scope: string, signal?: AbortSignal): Promise<void> {
    for (let seconds = this.#secondsUntilAllowed(scope); seconds > 0; seconds = this.#secondsUntilAllowed(scope)) {
      await setTimeout(Math.min(Math.ceil(seconds * 1000), MAX_TIMER_MS), undefined, { signal, ref: false });
    }
  }

  #secondsUntilAllowed(scope: string): number {
    return this.#bucketOf(scope)?.secondsUntilAllowed(this.#now()) ?? 0;
  }

  /** A key whose rate was changed starts anew. */
  #bucketOf(scope: string): TokenBucket | undefined {
    const rate = this.#rateOf(scope);
    if (rate === undefined) return undefined;
    const known = this.#buckets.get(scope);
    if (known?.rate === rate) return known.bucket;
    const bucket = new TokenBucket(rate, this.#now());
    this.#buckets.set(scope, { rate, bucket });
    return bucket;
  }
}
