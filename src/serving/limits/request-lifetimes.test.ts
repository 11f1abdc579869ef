import { setTimeout } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { CartridgesError } from '../../core/errors.js';
import { RequestLifetimes } from './request-lifetimes.js';

const never = new AbortController().signal;

test('ends with the client, with the time, and with the server', async () => {
  const lifetimes = new RequestLifetimes();
  const client = new AbortController();
  const left = lifetimes.begin(client.signal, 60);
  // As the listener of Node says it.
  client.abort('gone');
  expect(left.signal.reason).toBeInstanceOf(CartridgesError);
  expect(left.signal.reason).toMatchObject({ code: 'CANCELLED', cause: 'gone' });

  const slow = lifetimes.begin(never, 0.02);
  await setTimeout(60);
  expect(slow.signal.reason).toMatchObject({ status: 408 });

  const running = lifetimes.begin(never, 60);
  const over = lifetimes.begin(never, 60);
  over.end();
  lifetimes.abortAll();
  expect(running.signal.reason).toMatchObject({ status: 503 });
  expect(over.signal.aborted).toBe(false);
});

test('a client that has gone already is seen', () => {
  expect(new RequestLifetimes().begin(AbortSignal.abort(), 60).signal.aborted).toBe(true);
});
