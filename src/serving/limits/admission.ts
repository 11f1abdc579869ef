import type { Caller } from '../caller.js';
import { RequestError } from '../request-error.js';
import type { TokenRates } from './token-rates.js';

export interface AdmissionLimits {
  /** Requests that the engine answers at the same time. */
  maxRequests: number;
  /** Requests that may wait beside those. */
  queueSize: number;
  /** Requests of a scope at a time. */
  concurrencyOf(scope: string): number;
}

/** What waits in the engine: one request of the API may be many there. */
export interface EngineQueue {
  all(): number;
  of(scope: string): number;
}

/** Longest that a client is told to wait: the guess is rough, and a queue may empty at once. */
const MAX_RETRY_SECONDS = 30;
/** Weight of the newest answer in the mean time of an answer. */
const NEWEST_WEIGHT = 0.2;

/** Decides whether one more request for an answer is taken, and counts those that are. */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #rates: TokenRates;
  readonly #engine: EngineQueue;
  readonly #ofScope = new Map<string, number>();
  #taken = 0;
  #meanSeconds = 1;

  constructor(limits: AdmissionLimits, rates: TokenRates, engine: EngineQueue) {
    this.#limits = limits;
    this.#rates = rates;
    this.#engine = engine;
  }

  /** Takes a request, or throws 429 with the time after which a further try makes sense. Call what is returned at its end. */
  take({ scope }: Caller): () => void {
    this.#checkQueue(scope);
    this.#checkConcurrency(scope);
    this.#rates.check(scope);
    const started = performance.now();
    this.#count(scope, 1);
    return () => {
      this.#count(scope, -1);
      this.#meanSeconds += NEWEST_WEIGHT * ((performance.now() - started) / 1000 - this.#meanSeconds);
    };
  }

  /** Where the engine's queue is full, a scope that has not its even share of it is taken all the same: others have filled it. */
  #checkQueue(scope: string): void {
    const { maxRequests, queueSize } = this.#limits;
    const engineWaiting = this.#engine.all();
    const others = this.#ofScope.size - (this.#ofScope.has(scope) ? 1 : 0);
    const hasTurn = engineWaiting <= queueSize || this.#engine.of(scope) < queueSize / (others + 1);
    if (this.#taken < maxRequests + queueSize && hasTurn) return;
    const ahead = Math.max(this.#taken, maxRequests + engineWaiting);
    throw new RequestError(429, 'too many requests wait, more are not taken now', {
      retryAfterSeconds: this.#secondsFor(ahead / maxRequests),
    });
  }

  #checkConcurrency(scope: string): void {
    const most = this.#limits.concurrencyOf(scope);
    if ((this.#ofScope.get(scope) ?? 0) < most) return;
    throw new RequestError(429, `the key has ${most} requests under way, the most that it may`, {
      retryAfterSeconds: this.#secondsFor(1),
    });
  }

  #secondsFor(answers: number): number {
    return Math.min(MAX_RETRY_SECONDS, Math.max(1, this.#meanSeconds * answers));
  }

  #count(scope: string, by: 1 | -1): void {
    this.#taken += by;
    const count = (this.#ofScope.get(scope) ?? 0) + by;
    if (count === 0) this.#ofScope.delete(scope);
    else this.#ofScope.set(scope, count);
  }
}
