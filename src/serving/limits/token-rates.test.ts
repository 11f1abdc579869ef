import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { RequestError } from '../request-error.js';
import { TokenBucket } from './token-bucket.js';
import { TokenRates } from './token-rates.js';

test('a bucket holds a minute, goes into debt, and says when the debt is paid', () => {
  const bucket = new TokenBucket(600, 0);
  bucket.charge(599, 0);
  expect(bucket.secondsUntilAllowed(0)).toBe(0);
  bucket.charge(101, 0);
  expect(bucket.secondsUntilAllowed(0)).toBeCloseTo(10.1);
  expect(bucket.secondsUntilAllowed(10_100)).toBe(0);
  bucket.charge(1, 3_600_000);
  expect(bucket.secondsUntilAllowed(3_600_000)).toBe(0);
});

test('whatever is charged when, the time that a bucket names is enough, and less is not', () => {
  const step = fc.record({ tokens: fc.nat(5000), wait: fc.nat(90_000) });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5000 }), fc.array(step, { maxLength: 20 }), (perMinute, steps) => {
      const bucket = new TokenBucket(perMinute, 0);
      let now = 0;
      for (const { tokens, wait } of steps) {
        now += wait;
        bucket.charge(tokens, now);
      }
      const enough = now + bucket.secondsUntilAllowed(now) * 1000 + 1;
      // The time is that of one whole token.
      const tooEarly = enough - 60_000 / perMinute - 2;
      if (tooEarly > now) expect(bucket.secondsUntilAllowed(tooEarly)).toBeGreaterThan(0);
      expect(bucket.secondsUntilAllowed(enough)).toBe(0);
    }),
  );
});

test('a scope over its rate is refused with the time to wait; others and those without a rate are not', () => {
  let now = 0;
  const rates = new TokenRates(
    (scope) => (scope === 'free' ? undefined : 60),
    () => now,
  );
  for (const scope of ['ana', 'free']) rates.charge(scope, 100);
  expect(() => rates.check('ana')).toThrow(expect.objectContaining({ status: 429, retryAfterSeconds: expect.closeTo(41) }));
  expect(() => rates.check('ana')).toThrow(RequestError);
  rates.check('bob');
  rates.check('free');
  now = 41_000;
  rates.check('ana');
});

test('work that nobody waits at waits for its scope, and stops waiting when it is cancelled', async () => {
  const rates = new TokenRates(() => 60_000);
  rates.charge('ana', 60_030);
  const started = performance.now();
  await rates.whenAllowed('ana');
  expect(performance.now() - started).toBeGreaterThan(25);
  rates.charge('ana', 1_000_000);
  await expect(rates.whenAllowed('ana', AbortSignal.timeout(10))).rejects.toThrow();
});

test('work that has to wait for longer than a timer can be set for does not ask all the time', async () => {
  const now = vi.fn(() => performance.now());
  const rates = new TokenRates(() => 1, now);
  rates.charge('ana', 1_000_000);
  now.mockClear();
  await expect(rates.whenAllowed('ana', AbortSignal.timeout(30))).rejects.toThrow();
  expect(now).toHaveBeenCalledOnce();
});
