import { expect, it } from 'vitest';
import { TokenQueue } from './token-queue.js';

const value = (number: number) => ({ done: false, value: number });
const END = { done: true, value: undefined };

it('hands out what came before and what comes later, in order, to calls that wait side by side', async () => {
  const queue = new TokenQueue<number>();
  queue.push(1);
  const results = [queue.next(), queue.next(), queue.next(), queue.next()];
  queue.push(2);
  queue.push(3);
  queue.end();
  expect(await Promise.all(results)).toEqual([value(1), value(2), value(3), END]);
  expect(await queue.next()).toEqual(END);
});

it('hands out several that are there, and the end behind them', async () => {
  const queue = new TokenQueue<number>();
  for (const each of [1, 2, 3]) queue.push(each);
  queue.end();
  expect([queue.take(2), queue.size, queue.take(2), queue.take(2)]).toEqual([[1, 2], 1, [3], []]);
  expect(await queue.next()).toEqual(END);
});

it('throws an error behind the values there are, once', async () => {
  const queue = new TokenQueue<number>();
  queue.push(1);
  queue.end(new Error('broken'));
  expect(await queue.next()).toEqual(value(1));
  await expect(queue.next()).rejects.toThrow('broken');
  expect(await queue.next()).toEqual(END);
});

it.each(['return', 'throw'] as const)('tells its producer once when the consumer leaves by %s', async (way) => {
  let left = 0;
  const queue = new TokenQueue<number>(() => left++);
  const waiting = queue.next();
  if (way === 'return') expect(await queue.return()).toEqual(END);
  else await expect(queue.throw(new Error('enough'))).rejects.toThrow('enough');
  expect(await waiting).toEqual(END);
  queue.push(1);
  queue.end(new Error('cancelled'));
  await queue.return();
  expect([queue.size, left, await queue.next()]).toEqual([0, 1, END]);
});

it('has nothing to tell a producer that is done', async () => {
  let left = 0;
  const queue = new TokenQueue<number>(() => left++);
  queue.push(1);
  queue.end();
  await queue.return();
  expect([queue.size, left]).toEqual([0, 0]);
});
