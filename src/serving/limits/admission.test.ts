import { expect, test } from 'vitest';
import { Admission } from './admission.js';
import { TokenRates } from './token-rates.js';

const caller = (scope: string) => ({ scope, isAdmin: false, mayUse: () => true });
const idle = { all: () => 0, of: () => 0 };
const unlimited = new TokenRates(() => undefined);

test('takes what runs and what may wait, and refuses the next until one is done', () => {
  const admission = new Admission({ maxRequests: 2, queueSize: 1, concurrencyOf: () => 100 }, unlimited, idle);
  const leave = [1, 2, 3].map(() => admission.take(caller('ana')));
  expect(() => admission.take(caller('bob'))).toThrow(
    expect.objectContaining({ status: 429, retryAfterSeconds: expect.any(Number) }),
  );
  leave[0]!();
  admission.take(caller('bob'));
});

test('counts what waits in the engine: one request may be many there', () => {
  let waiting = 4;
  const queue = { all: () => waiting, of: () => waiting };
  const admission = new Admission({ maxRequests: 2, queueSize: 3, concurrencyOf: () => 100 }, unlimited, queue);
  expect(() => admission.take(caller('ana'))).toThrow(expect.objectContaining({ status: 429 }));
  waiting = 3;
  admission.take(caller('ana'));
});

test('a key that fills the queue of the engine leaves others their share', () => {
  const waiting = new Map<string, number>();
  const queue = { all: () => 160, of: (scope: string) => waiting.get(scope) ?? 0 };
  const admission = new Admission({ maxRequests: 2, queueSize: 128, concurrencyOf: () => 100 }, unlimited, queue);
  admission.take(caller('ana'));
  waiting.set('ana', 160);
  expect(() => admission.take(caller('ana'))).toThrow(expect.objectContaining({ status: 429 }));
  admission.take(caller('bob'));
  waiting.set('bob', 63);
  admission.take(caller('bob'));
  waiting.set('bob', 64);
  expect(() => admission.take(caller('bob'))).toThrow(expect.objectContaining({ status: 429 }));
});

test('a key has no more requests under way than it may, other keys have theirs', () => {
  const admission = new Admission({ maxRequests: 9, queueSize: 9, concurrencyOf: (s) => (s === 'ana' ? 1 : 2) }, unlimited, idle);
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
  const admission = new Admission({ maxRequests: 1, queueSize: 0, concurrencyOf: () => 1 }, rates, idle);
  rates.charge('ana', 100);
  expect(() => admission.take(caller('ana'))).toThrow(expect.objectContaining({ status: 429 }));
  admission.take(caller('bob'));
});
