import { expect, test } from 'vitest';
import { Admission } from './admission.js';
import { TokenRates } from './token-rates.js';

const caller = (scope: string) => ({ scope, isAdmin: false, mayUse: () => true });
const unlimited = new TokenRates(() => undefined);

test('takes what runs and what may wait, and refuses the next until one is done', () => {
  const admission = new Admission({ maxRequests: 2, queueSize: 1, concurrencyOf: () => 100 }, unlimited, () => 0);
  const leave = [1, 2, 3].map(() => admission.take(caller('ana')));
  expect(() => admission.take(caller('bob'))).toThrow(
    expect.objectContaining({ status: 429, retryAfterSeconds: expect.any(Number) }),
  );
  leave[0]!();
  admission.take(caller('bob'));
});

test('counts what waits in the engine: one request may be many there', () => {
  let waiting = 4;
  const admission = new Admission({ maxRequests: 2, queueSize: 3, concurrencyOf: () => 100 }, unlimited, () => waiting);
  expect(() => admission.take(caller('ana'))).toThrow(expect.objectContaining({ status: 429 }));
  waiting = 3;
  admission.take(caller('ana'));
});

test('a key has no more requests under way than it may, other keys have theirs', () => {
  const admission = new Admission(
    { maxRequests: 9, queueSize: 9, concurrencyOf: (s) => (s === 'ana' ? 1 : 2) },
    unlimited,
    () => 0,
  );
  const leave = admission.take(caller('ana'));
  expect(() => admission.take(caller('ana'))).toThrow(
    expect.objectContaining({ status: 429, message: expect.stringContaining('1') }),
  );
  admission.take(caller('bob'));
  admission.take(caller('bob'));
  leave();
  admission.take(caller('ana'));
});

test('a key without tokens left is refused, and is not counted', () => {
  const rates = new TokenRates(() => 60);
  const admission = new Admission({ maxRequests: 1, queueSize: 0, concurrencyOf: () => 1 }, rates, () => 0);
  rates.charge('ana', 100);
  expect(() => admission.take(caller('ana'))).toThrow(expect.objectContaining({ status: 429 }));
  admission.take(caller('bob'));
});
