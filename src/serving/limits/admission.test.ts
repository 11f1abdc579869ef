import { expect, test } from 'vitest';
import { Admission } from './admission.js';
import { TokenRates } from './token-rates.js';

const caller = (scope: string) => ({ scope, isAdmin: false, mayUse: () => true });
const idle = { all: () => 0, of: () => 0 };
const never = new AbortController().signal;
const unlimited = new TokenRates(() => undefined);

test('takes what runs and what may wait, and refuses the next until one is done', () => {
  const admission = new Admission({ maxRequests: 2, queueSize: 1, concurrencyOf: () => 100 }, unlimited, idle);
  const places = [1, 2, 3].map(() => admission.take(caller('ana')));
  expect(() => admission.take(caller('bob'))).toThrow(
    expect.objectContaining({ status: 429, retryAfterSeconds: expect.any(Number) }),
  );
  places[0]!.leave();
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
  const place = admission.take(caller('ana'));
  expect(() => admission.take(caller('ana'))).toThrow(
    expect.objectContaining({ status: 429, message: expect.stringContaining('1') }),
  );
  admission.take(caller('bob'));
  admission.take(caller('bob'));
  place.leave();
  admission.take(caller('ana'));
});

test('a key has no more answers under way than it may, however few requests ask for them', async () => {
  const admission = new Admission({ maxRequests: 9, queueSize: 9, concurrencyOf: () => 4 }, unlimited, idle);
  const hold = async (count: number, scope = 'ana') => {
    const place = admission.take(caller(scope));
    await place.hold({ count, param: 'n' }, never).catch((error) => {
      place.leave();
      throw error;
    });
    return place;
  };
  const place = await hold(3);
  await expect(hold(2)).rejects.toMatchObject({
    status: 429,
    retryAfterSeconds: expect.any(Number),
    message: expect.stringMatching(/3 answers .* 2 more .* 4 /),
  });
  await expect(hold(5)).rejects.toMatchObject({ status: 400, param: 'n', message: expect.stringContaining('4 at a time') });
  await hold(1);
  await hold(4, 'bob');
  place.leave();
  await hold(3);
});

test('lines wait for the answers of their key', async () => {
  const admission = new Admission({ maxRequests: 9, queueSize: 9, concurrencyOf: () => 2 }, unlimited, idle);
  const request = admission.take(caller('ana'));
  await request.hold({ count: 1, param: 'messages' }, never);
  const [first, second] = [1, 2].map(() => admission.placeOfLine(caller('ana')));
  await first!.hold({ count: 1, param: 'messages' }, never);
  let isHeld = false;
  const held = second!.hold({ count: 1, param: 'messages' }, never).then(() => {
    isHeld = true;
  });
  await new Promise(setImmediate);
  expect(isHeld).toBe(false);
  request.leave();
  await held;
  await expect(admission.placeOfLine(caller('ana')).hold({ count: 3, param: 'n' }, never)).rejects.toMatchObject({ status: 400 });
});

test('a key without tokens left is refused, and is not counted', () => {
  const rates = new TokenRates(() => 60);
  const admission = new Admission({ maxRequests: 1, queueSize: 0, concurrencyOf: () => 1 }, rates, idle);
  rates.charge('ana', 100);
  expect(() => admission.take(caller('ana'))).toThrow(expect.objectContaining({ status: 429 }));
  admission.take(caller('bob'));
});
