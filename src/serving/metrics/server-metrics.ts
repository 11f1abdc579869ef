import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { EngineUsage } from '../../inference/inference-engine.js';
import type { RequestLogEntry } from '../http/track-request.js';
import { PatientHistogram } from './patient-histogram.js';

const REQUEST_SECONDS = [0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600];
const FIRST_TOKEN_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const BETWEEN_TOKENS_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];
const TOKENS_PER_SECOND = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/** What the server counts and measures, in the text format of Prometheus. */
export class ServerMetrics {
  readonly registry = new Registry();
  readonly timeToFirstToken = this.#histogram(
    'time_to_first_token_seconds',
    'From the request to its first token',
    FIRST_TOKEN_SECONDS,
  );
  readonly timeBetweenTokens = this.#histogram('inter_token_seconds', 'Between two tokens of one answer', BETWEEN_TOKENS_SECONDS);
  readonly tokensPerSecond = this.#histogram(
    'answer_tokens_per_second',
    'Speed of one answer behind its first token',
    TOKENS_PER_SECOND,
  );
  readonly answers = this.#counter('answers_total', 'Answers by how they ended: finished, cancelled or failed', ['outcome']);
  readonly tokens = this.#counter('tokens_total', 'Tokens of answers; cached ones are those prompt tokens that were reused', [
    'kind',
  ]);
  readonly cacheHits = this.#counter('cache_hits_total', 'Answers that reused tokens of their prompt', []);
  readonly #requests = this.#counter('http_requests_total', 'Requests by method, route and status', [
    'method',
    'route',
    'status',
  ]);
  readonly #requestSeconds = new Histogram({
    name: 'cartridges_http_request_seconds',
    help: 'Time of a request with its whole answer',
    labelNames: ['route'],
    buckets: REQUEST_SECONDS,
    registers: [this.registry],
  });

  /** @param usage  Reads what the engine does now. */
  constructor(usage: () => EngineUsage) {
    this.#gauge('kv_cells', 'Cells of the cache by what they hold', ['owner'], (gauge) => {
      const { requestCells, cartridgeCells, cachedTurnCells, freeCells } = usage();
      gauge.set({ owner: 'requests' }, requestCells);
      gauge.set({ owner: 'cartridges' }, cartridgeCells);
      gauge.set({ owner: 'cached_turns' }, cachedTurnCells);
      gauge.set({ owner: 'free' }, freeCells);
    });
    this.#gauge('requests', 'Requests in the engine', ['state'], (gauge) => {
      const { running, waiting } = usage();
      gauge.set({ state: 'running' }, running);
      gauge.set({ state: 'waiting' }, waiting);
    });
    this.#gauge('stored_turn_bytes', 'Rows of finished turns outside of the cache', [], (gauge) =>
      gauge.set(usage().storedTurnBytes),
    );
    this.#total('lost_turns_total', 'Finished turns whose rows could not be copied', () => usage().lostTurns);
    this.#total('decode_seconds_total', 'Time in which the engine computed batches', () => usage().decodeSeconds);
    this.#gauge('cartridges_loaded', 'Cartridges whose rows are in the cache', [], (gauge) =>
      gauge.set(usage().residentCartridges),
    );
  }

  countRequest({ method, route, status, milliseconds }: RequestLogEntry): void {
    this.#requests.inc({ method, route, status });
    this.#requestSeconds.observe({ route }, milliseconds / 1000);
  }

  #counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name: `cartridges_${name}`, help, labelNames, registers: [this.registry] });
  }

  /** A counter whose value is counted elsewhere. */
  #total(name: string, help: string, read: () => number): void {
    const counter: Counter = new Counter({
      name: `cartridges_${name}`,
      help,
      registers: [this.registry],
      collect: () => {
        counter.reset();
        counter.inc(read());
      },
    });
  }

  #histogram(name: string, help: string, buckets: number[]): PatientHistogram {
    return new PatientHistogram({ name: `cartridges_${name}`, help, buckets, registers: [this.registry] });
  }

  #gauge(name: string, help: string, labelNames: string[], collect: (gauge: Gauge) => void): void {
    const gauge: Gauge = new Gauge({
      name: `cartridges_${name}`,
      help,
      labelNames,
      registers: [this.registry],
      collect: () => collect(gauge),
    });
  }
}
