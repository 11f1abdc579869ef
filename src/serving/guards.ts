import type { InferenceEngine } from '../inference/inference-engine.js';
import type { Settings } from '../pipeline/settings.js';
import type { KeyRing } from './auth/key-ring.js';
import { Admission } from './limits/admission.js';
import { RequestLifetimes } from './limits/request-lifetimes.js';
import { TokenRates } from './limits/token-rates.js';
import { AnswerMeter } from './metrics/answer-meter.js';
import { ServerMetrics } from './metrics/server-metrics.js';

/** What counts, measures and bounds the requests of a server. */
export interface Guards {
  rates: TokenRates;
  admission: Admission;
  lifetimes: RequestLifetimes;
  metrics: ServerMetrics;
  meter: AnswerMeter;
}

/** The guards that the settings ask for; a key may say otherwise for itself. */
export function createGuards(serving: Settings['serving'], keys: KeyRing | undefined, engine: InferenceEngine): Guards {
  const { maxRequests, queueSize, keyConcurrency, keyTokensPerMinute } = serving;
  const rates = new TokenRates((scope) => keys?.limitsOf(scope)?.tokensPerMinute ?? keyTokensPerMinute);
  // Without keys all share one scope: the queue alone bounds them.
  const concurrencyOf = (scope: string) =>
    keys ? (keys.limitsOf(scope)?.concurrency ?? keyConcurrency) : Number.POSITIVE_INFINITY;
  const queue = { all: () => engine.usage.waiting, of: (scope: string) => engine.waitingOf(scope) };
  const admission = new Admission({ maxRequests, queueSize, concurrencyOf }, rates, queue);
  const metrics = new ServerMetrics(() => engine.usage);
  return { rates, admission, metrics, meter: new AnswerMeter(metrics, rates), lifetimes: new RequestLifetimes() };
}
