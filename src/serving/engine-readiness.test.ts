import { expect, it } from 'vitest';
import { StrictContext } from '../../test/support/strict-context.js';
import { CartridgesError } from '../core/errors.js';
import { Reading } from '../inference/reading.js';
import { Scheduler } from '../inference/scheduler.js';
import { engineReadiness } from './engine-readiness.js';
import { type ErrorBody, toErrorResponse } from './error-response.js';
import { healthRoutes } from './health.js';

function failingEngine() {
  const context = new StrictContext(100, 8, 4);
  const scheduler = new Scheduler(context, { sequences: 8, runs: 2, sequenceTokens: 100, retainTurns: true });
  let time = 0;
  const health = healthRoutes(engineReadiness(scheduler, () => time));
  return {
    context,
    scheduler,
    later: (milliseconds: number) => {
      time += milliseconds;
    },
    /** Status of an answer to a request that reads two tokens. */
    async ask() {
      const read = new Promise<void>((resolve, reject) => {
        const request = { tokens: Int32Array.of(1, 2), firstLogitsRow: 1, onLogits: () => {} };
        scheduler.submit(new Reading(request, { resolve, reject }));
      });
      const response = await read.then(() => new Response('{}'), toErrorResponse);
      return {
        status: response.status,
        retryAfter: response.headers.get('retry-after'),
        ...((await response.json()) as Partial<ErrorBody>).error,
      };
    },
    async ready() {
      const response = await health.request('/ready');
      return [response.status, ((await response.json()) as { status: string }).status];
    },
  };
}

const DOWN = [503, 'the engine failed, and it cannot be started anew'];

it('says no while the engine cannot be started anew, and requests are refused at once with 503', async () => {
  const { context, scheduler, ask, ready } = failingEngine();
  expect(await ready()).toEqual([200, 'ready']);
  context.failures.add(1);
  context.failingRebuilds = 3;
  // The one that ran, then two whose tries fail.
  expect(await ask()).toMatchObject({ status: 500, code: 'engine_failure' });
  await scheduler.whenIdle();
  for (const _ of [1, 2]) {
    expect(await ask()).toMatchObject({ status: 503, code: 'engine_down', retryAfter: '5' });
    await scheduler.whenIdle();
    expect(scheduler.failure).toMatchObject({ code: 'ENGINE_DOWN', message: expect.stringContaining('no memory for a context') });
  }
  expect(context.rebuilds).toBe(3);
  expect(await ready()).toEqual(DOWN);
  // That question had it tried once more.
  await scheduler.whenIdle();
  expect(await ready()).toEqual([200, 'ready']);
  expect(await ask()).toMatchObject({ status: 200 });
  expect(context.violations).toEqual([]);
});

it('recovers with a request too', async () => {
  const { context, scheduler, ask, ready } = failingEngine();
  context.failures.add(1);
  context.failingRebuilds = 1;
  expect((await ask()).status).toBe(500);
  await scheduler.whenIdle();
  expect(scheduler.failure).toBeDefined();
  expect((await ask()).status).toBe(200);
  expect(await ready()).toEqual([200, 'ready']);
});

it('has the engine tried once a second, however often it is asked', async () => {
  const { context, scheduler, ask, ready, later } = failingEngine();
  context.failures.add(1);
  context.failingRebuilds = 1_000;
  await ask();
  await scheduler.whenIdle();
  const before = context.rebuilds;
  for (let second = 0; second < 3; second++) {
    for (let question = 0; question < 5; question++) {
      expect(await ready()).toEqual(DOWN);
      await scheduler.whenIdle();
    }
    later(1_000);
  }
  expect(context.rebuilds - before).toBe(3);
});

it('says when it is the memory', () => {
  const cause = new CartridgesError('OUT_OF_MEMORY', 'a context of 99 tokens could not be made: at /home/me');
  const failure = new CartridgesError('ENGINE_DOWN', 'down', { cause });
  expect(engineReadiness({ failure, revive: () => {} })()).toEqual({
    ready: false,
    reason: 'the engine failed, and there is no memory to start it anew',
  });
});
