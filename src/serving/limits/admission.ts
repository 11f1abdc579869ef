import type { Caller } from '../caller.js';
import { RequestError } from '../request-error.js';
import { AnswerRoom, type Release } from './answer-room.js';
import type { AskedAnswers, Place } from './place.js';
import type { TokenRates } from './token-rates.js';

export interface AdmissionLimits {
  /** Requests that the engine answers at the same time. */
  maxRequests: number;
  /** Requests that may wait beside those. */
  queueSize: number;
  /** Requests of a scope at a time, and answers of all of them together. */
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

/** Decides whether one more request for answers is taken, and counts those that are with what they ask for. */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #rates: TokenRates;
  readonly #engine: EngineQueue;
  readonly #ofScope = new Map<string, number>();
  readonly #room: AnswerRoom;
  #taken = 0;
  #meanSeconds = 1;

  constructor(limits: AdmissionLimits, rates: TokenRates, engine: EngineQueue) {
    this.#limits = limits;
    this.#rates = rates;
    this.#engine = engine;
    this.#room = new AnswerRoom((scope) => limits.concurrencyOf(scope));
  }

  /** Takes a request, or throws 429 with the time after which a further try makes sense; so does its place. */
  take({ scope }: Caller): Place {
    this.#checkQueue(scope);
    this.#checkConcurrency(scope);
    this.#rates.check(scope);
    const started = performance.now();
    let release: Release = () => {};
    this.#count(scope, 1);
    return {
      hold: async (asked) => {
        release = this.#takeRoom(scope, asked);
      },
      leave: () => {
        release();
        this.#count(scope, -1);
        this.#meanSeconds += NEWEST_WEIGHT * ((performance.now() - started) / 1000 - this.#meanSeconds);
      },
    };
  }

  /** The place of one line of a request that was taken: it waits for room, since many lines come at once. */
  placeOfLine({ scope }: Caller): Place {
    let release: Release = () => {};
    return {
      hold: async (asked, signal) => {
        release = await this.#room.whenFree(scope, asked, signal);
      },
      leave: () => release(),
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

  #takeRoom(scope: string, asked: AskedAnswers): Release {
    const release = this.#room.take(scope, asked);
    if (release) return release;
    const most = this.#limits.concurrencyOf(scope);
    const message = `the key has ${this.#room.taken(scope)} answers under way, and ${asked.count} more are above the ${most} that it may have`;
    throw new RequestError(429, message, { retryAfterSeconds: this.#secondsFor(1) });
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
