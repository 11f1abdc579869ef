import type { CartridgesError } from '../../core/errors.js';
import type { AnswerObserver, AnswerTrace, AnswerUsage } from '../answer-observer.js';
import type { Caller } from '../caller.js';
import type { TokenRates } from '../limits/token-rates.js';
import type { ServerMetrics } from './server-metrics.js';

/** When the tokens of one choice came, in milliseconds. */
interface ChoiceTimes {
  firstAt: number;
  lastAt: number;
  tokens: number;
}

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
    const choices = new Map<number, ChoiceTimes>();
    const over = (outcome: string, usage: AnswerUsage) => {
      this.#metrics.answers.inc({ outcome });
      this.#count(usage);
      this.#rates.charge(scope, usage.promptTokens + usage.completionTokens);
    };
    return {
      token: (choice) => {
        const now = this.#now();
        const times = choices.get(choice);
        if (times) this.#metrics.timeBetweenTokens.observe((now - times.lastAt) / 1000);
        else if (choices.size === 0) this.#metrics.timeToFirstToken.observe((now - started) / 1000);
        choices.set(choice, { firstAt: times?.firstAt ?? now, lastAt: now, tokens: (times?.tokens ?? 0) + 1 });
      },
      finished: (usage) => {
        over('finished', usage);
        for (const { firstAt, lastAt, tokens } of choices.values()) {
          if (lastAt > firstAt) this.#metrics.tokensPerSecond.observe(((tokens - 1) * 1000) / (lastAt - firstAt));
        }
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
