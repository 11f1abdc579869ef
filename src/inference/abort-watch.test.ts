import { getEventListeners } from 'node:events';
import { expect, it } from 'vitest';
import { AbortWatch } from './abort-watch.js';

it('has one listener for a signal that many watch, and none when all have left', () => {
  let calls = 0;
  const watch = new AbortWatch(() => calls++);
  const controller = new AbortController();
  const leaves = Array.from({ length: 40 }, () => watch.watch(controller.signal));
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(1);
  for (const leave of leaves.slice(1)) leave();
  for (const leave of leaves.slice(1)) leave();
  controller.abort();
  expect(calls).toBe(1);
  leaves[0]!();
  expect(getEventListeners(controller.signal, 'abort')).toHaveLength(0);
});

it('takes a request without a signal', () => {
  expect(() => new AbortWatch(() => {}).watch(undefined)()).not.toThrow();
});
