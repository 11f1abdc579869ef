import { createRoute, z } from '@hono/zod-openapi';
import { expect, test } from 'vitest';
import type { Dispatch } from './dispatch.js';
import { Admission } from './limits/admission.js';
import { TokenRates } from './limits/token-rates.js';
import { createDispatch } from './local-dispatch.js';
import { createRouter } from './router.js';

const ana = { scope: 'ana', isAdmin: false, mayUse: () => true };
const route = createRoute({
  method: 'post',
  path: '/v1/echo',
  request: { body: { required: true, content: { 'application/json': { schema: z.strictObject({ text: z.string() }) } } } },
  responses: { 200: { description: 'Who sends what' } },
});
const routes = createRouter();
routes.openapi(route, (context) => context.json({ ...context.req.valid('json'), scope: context.get('caller').scope }, 200));
routes.post('/v1/stream', (context) => context.body('data: a', 200, { 'content-type': 'text/event-stream' }));
routes.post('/v1/warned', (context) => context.json({}, 200, { 'X-Cartridges-Warning': 'mind' }));
routes.post('/v1/aborted', (context) => context.json({ aborted: context.req.raw.signal.aborted }));
routes.post('/v1/room', async (context) => {
  await context.get('place')?.hold({ count: 1, param: 'n' }, context.req.raw.signal);
  most = Math.max(most, ++underWay);
  await new Promise(setImmediate);
  underWay--;
  return context.json({});
});
let underWay = 0;
let most = 0;
const unlimited = new TokenRates(() => undefined);

test('a line is checked and answered as a request of its caller', async () => {
  const dispatch = createDispatch(routes, unlimited);
  expect(await dispatch('/v1/echo', { text: 'a' }, ana)).toEqual({ status: 200, body: { text: 'a', scope: 'ana' } });
  expect(await dispatch('/v1/echo', { text: 1 }, ana)).toMatchObject({ status: 400, body: { error: { param: 'text' } } });
  expect(await dispatch('/nope', {}, ana)).toMatchObject({ status: 404, body: { error: { code: 'not_found' } } });
  expect(await dispatch('/v1/stream', {}, ana)).toMatchObject({ status: 400, body: { error: { param: 'stream' } } });
});

test('what is to be known beside an answer comes with it', async () => {
  const dispatch = createDispatch(routes, unlimited);
  expect(await dispatch('/v1/warned', {}, ana)).toEqual({ status: 200, body: {}, warning: 'mind' });
  expect(await dispatch('/v1/echo', { text: 'a' }, ana)).not.toHaveProperty('warning');
});

test('the signal of a line is that of its request', async () => {
  const dispatch = createDispatch(routes, unlimited);
  expect(await dispatch('/v1/aborted', {}, ana, AbortSignal.abort())).toEqual({ status: 200, body: { aborted: true } });
});

test('a line waits for the rate of its key', async () => {
  const rates = new TokenRates(() => 60_000);
  rates.charge('ana', 60_050);
  const started = performance.now();
  await createDispatch(routes, rates)('/v1/echo', { text: 'a' }, ana);
  expect(performance.now() - started).toBeGreaterThan(40);
});

test('lines with places have no more under way than their key may, and give all of it back', async () => {
  const idle = { all: () => 0, of: () => 0 };
  const admission = new Admission({ maxRequests: 9, queueSize: 9, concurrencyOf: () => 2 }, unlimited, idle);
  const ask = (dispatch: Dispatch) => Promise.all(Array.from({ length: 9 }, () => dispatch('/v1/room', {}, ana)));
  await ask(createDispatch(routes, unlimited, (caller) => admission.placeOfLine(caller)));
  expect(most).toBe(2);
  await admission.take(ana).hold({ count: 2, param: 'n' }, new AbortController().signal);
  await ask(createDispatch(routes, unlimited));
  expect(most).toBe(9);
});
