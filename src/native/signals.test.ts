import { setTimeout } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { blockSignals } from './signals.js';

test.skipIf(process.platform === 'win32')('a signal waits until it is let in again', async () => {
  let received = 0;
  const listener = () => received++;
  process.on('SIGUSR2', listener);
  const allowSignals = blockSignals();
  // Only this thread can take it: the others of a process with one thread of JavaScript block what they do not handle.
  process.kill(process.pid, 'SIGUSR2');
  allowSignals();
  await setTimeout(50);
  expect(received).toBe(1);
  process.off('SIGUSR2', listener);
});
