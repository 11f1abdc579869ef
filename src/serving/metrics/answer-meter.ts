import type { CartridgesError } from '../../core/errors.js';
import type { AnswerObserver, AnswerTrace, AnswerUsage } from '../answer-observer.js';
import type { Caller } from '../caller.js';
import type { TokenRates } from '../limits/token-rates.js';
import type { ServerMetrics } from './server-metrics.js';

/** Measures answers for the metrics, and counts their tokens against the rates of their keys. */
export class AnswerMeter implements AnswerObserver {
  readonly #metrics: ServerMetrics;
  readonly #rates: TokenRates;
  readonly #now: () => number;

  /** @param now  Milliseconds; tests pass their own clock. */
  constructor(metrics: ServerMetrics, rates: TokenRates, now: () => number = () => performance.now()) {
    this.#metrics = metrics;
    this.#rates = rates;
    this.#now = now;
  }

  began({ scope }: Caller): AnswerTrace {
    const started = this.#now();
    let firstAt: number | undefined;
    let lastAt = started;
    const over = (outcome: string, usage: AnswerUsage) => {
      this.#metrics.answers.inc({ outcome });
      this.#count(usage);
      this.#rates.charge(scope, usage.promptTokens + usage.completionTokens);
    };
    return {
      token: () => {
        const now = this.#now();
        const { timeToFirstToken, timeBetweenTokens } = this.#metrics;
        (firstAt === undefined ? timeToFirstToken : timeBetweenTokens).observe((now - lastAt) / 1000);
        firstAt ??= now;
        lastAt = now;
      },
      finished: (usage) => {
        over('finished', usage);
        const seconds = (lastAt - (firstAt ?? lastAt)) / 1000;
        if (seconds > 0) this.#metrics.tokensPerSecond.observe((usage.completionTokens - 1) / seconds);
      },
      failed: (error, usage) => over(outcomeOf(error), usage),
    };
  }

  #count({ promptTokens, cachedTokens, completionTokens }: AnswerUsage): void {
    const { tokens, cacheHits } = this.#metrics;
    tokens.inc({ kind: 'prompt' }, promptTokens);
    tokens.inc({ kind: 'cached' }, cachedTokens);
    tokens.inc({ kind: 'completion' }, completionTokens);
    if (cachedTokens > 0) cacheHits.inc();
  }
}

function outcomeOf(error: CartridgesError): string {
  return error.code === 'CANCELLED' ? 'cancelled' : 'failed';
}
