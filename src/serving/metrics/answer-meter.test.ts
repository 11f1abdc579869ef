import { expect, test } from 'vitest';
import { CartridgesError } from '../../core/errors.js';
import { TokenRates } from '../limits/token-rates.js';
import { AnswerMeter } from './answer-meter.js';
import { ServerMetrics } from './server-metrics.js';

const usage = {
  cells: 100,
  freeCells: 40,
  requestCells: 30,
  cartridgeCells: 20,
  cachedTurnCells: 10,
  running: 3,
  waiting: 2,
  residentCartridges: 1,
  storedTurnBytes: 4096,
  lostTurns: 2,
  decodeSeconds: 0,
};
const ana = { scope: 'ana', isAdmin: false, mayUse: () => true };

/** The value of a metric as Prometheus would read it. */
async function readValue(metrics: ServerMetrics, name: string): Promise<number> {
  const line = (await metrics.registry.metrics()).split('\n').find((line) => line.startsWith(`cartridges_${name} `));
  return Number(line?.split(' ')[1]);
}

test('an answer is measured from its begin to its last token, and charged to its key', async () => {
  let now = 1000;
  const metrics = new ServerMetrics(() => usage);
  const rates = new TokenRates(
    () => 60,
    () => now,
  );
  const meter = new AnswerMeter(metrics, rates, () => now);
  const trace = meter.began(ana);
  for (const wait of [300, 20, 30]) {
    now += wait;
    trace.token(0);
  }
  trace.finished({ promptTokens: 50, cachedTokens: 8, completionTokens: 3 });
  expect(await readValue(metrics, 'time_to_first_token_seconds_sum')).toBeCloseTo(0.3);
  expect(await readValue(metrics, 'inter_token_seconds_sum')).toBeCloseTo(0.05);
  expect(await readValue(metrics, 'inter_token_seconds_count')).toBe(2);
  expect(await readValue(metrics, 'answer_tokens_per_second_sum')).toBeCloseTo(40);
  expect(await readValue(metrics, 'tokens_total{kind="prompt"}')).toBe(50);
  expect(await readValue(metrics, 'tokens_total{kind="cached"}')).toBe(8);
  expect(await readValue(metrics, 'tokens_total{kind="completion"}')).toBe(3);
  expect(await readValue(metrics, 'cache_hits_total')).toBe(1);
  rates.check('ana');
  meter.began(ana).failed(new CartridgesError('CANCELLED', ''), { promptTokens: 10, cachedTokens: 0, completionTokens: 0 });
  expect(() => rates.check('ana')).toThrow(expect.objectContaining({ status: 429 }));
  expect(await readValue(metrics, 'answers_total{outcome="finished"}')).toBe(1);
  expect(await readValue(metrics, 'answers_total{outcome="cancelled"}')).toBe(1);
});

test('the choices of an answer are measured each for itself', async () => {
  let now = 0;
  const metrics = new ServerMetrics(() => usage);
  const trace = new AnswerMeter(metrics, new TokenRates(() => undefined), () => now).began(ana);
  for (const at of [100, 150, 200]) {
    now = at;
    for (const choice of [0, 1, 2, 3]) trace.token(choice);
  }
  trace.finished({ promptTokens: 5, cachedTokens: 0, completionTokens: 12 });
  expect(await readValue(metrics, 'time_to_first_token_seconds_count')).toBe(1);
  expect(await readValue(metrics, 'inter_token_seconds_count')).toBe(8);
  expect(await readValue(metrics, 'inter_token_seconds_sum')).toBeCloseTo(0.4);
  expect(await readValue(metrics, 'answer_tokens_per_second_count')).toBe(4);
  expect(await readValue(metrics, 'answer_tokens_per_second_sum')).toBeCloseTo(4 * 20);
});

test('the cells of all owners are the cells of the engine', async () => {
  const metrics = new ServerMetrics(() => usage);
  const owners = ['requests', 'cartridges', 'cached_turns', 'free'];
  const cells = await Promise.all(owners.map((owner) => readValue(metrics, `kv_cells{owner="${owner}"}`)));
  expect(cells).toEqual([30, 20, 10, 40]);
  expect(await readValue(metrics, 'requests{state="waiting"}')).toBe(2);
  expect(await readValue(metrics, 'cartridges_loaded')).toBe(1);
  expect(await readValue(metrics, 'stored_turn_bytes')).toBe(4096);
  expect(await readValue(metrics, 'lost_turns_total')).toBe(2);
});
