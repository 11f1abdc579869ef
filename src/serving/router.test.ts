import { createRoute, z } from '@hono/zod-openapi';
import { expect, test } from 'vitest';
import { CartridgesError } from '../core/errors.js';
import { createRouter } from './router.js';

const message = z.strictObject({ content: z.string() });
const body = z.strictObject({ messages: z.array(message), n: z.int().default(1) });
const route = createRoute({
  method: 'post',
  path: '/chat',
  request: { body: { required: true, content: { 'application/json': { schema: body } } } },
  responses: { 200: { description: 'done' } },
});
const router = createRouter();
router.openapi(route, (context) => context.json(context.req.valid('json'), 200));
router.get('/broken', () => {
  throw new CartridgesError('INTERNAL', 'at /home/me');
});

async function send(content: string, type = 'application/json') {
  const response = await router.request('/chat', { method: 'POST', body: content, headers: { 'content-type': type } });
  return { status: response.status, body: (await response.json()) as { error?: { message: string; param: string | null } } };
}

test('a right request is answered', async () => {
  expect(await send('{"messages":[]}')).toEqual({ status: 200, body: { messages: [], n: 1 } });
});

test('a wrong value is refused with its path', async () => {
  const { status, body } = await send('{"messages":[{"content":"a"},{"content":2}]}');
  expect(status).toBe(400);
  expect(body.error).toMatchObject({ param: 'messages[1].content', type: 'invalid_request_error', code: 'invalid_input' });
});

test('an unknown field is refused by name', async () => {
  const { body } = await send('{"messages":[{"content":"a","audio":1}]}');
  expect(body.error).toMatchObject({ param: 'messages[0].audio', message: 'the field messages[0].audio is not supported' });
});

test.each([
  ['{', 'application/json', 400],
  ['[]', 'application/json', 400],
  ['{"messages":[]}', 'text/plain', 415],
])('%s as %s is refused with %i', async (content, type, status) => {
  expect((await send(content, type)).status).toBe(status);
});

test('what a route throws has the same shape and no details', async () => {
  const response = await router.request('/broken');
  expect(response.status).toBe(500);
  expect(await response.json()).toEqual({
    error: { message: 'the server failed', type: 'server_error', param: null, code: 'internal' },
  });
});
