const MINUTE_MS = 60_000;

/**
 * Tokens that a key may still use. It fills up at a steady rate to one minute's worth. What a request costs is only known when it
 * is over, so the level may fall below zero, and nothing is allowed until it has risen again.
 */
export class TokenBucket {
  readonly #perMinute: number;
  #level: number;
  #at: number;

  /** @param now  Milliseconds of a clock that does not go back. */
  constructor(perMinute: number, now: number) {
    this.#perMinute = perMinute;
    this.#level = perMinute;
    this.#at = now;
  }

  /** Takes tokens that were used. */
  charge(tokens: number, now: number): void {
    this.#fill(now);
    this.#level -= tokens;
  }

  /** 0 when a request may start now. */
  secondsUntilAllowed(now: number): number {
    this.#fill(now);
    return this.#level > 0 ? 0 : ((1 - this.#level) / this.#perMinute) * 60;
  }

  #fill(now: number): void {
    this.#level = Math.min(this.#perMinute, this.#level + ((now - this.#at) / MINUTE_MS) * this.#perMinute);
    this.#at = now;
  }
}
