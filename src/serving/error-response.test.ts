import { HTTPException } from 'hono/http-exception';
import { expect, test } from 'vitest';
import { CartridgesError, type ErrorCode } from '../core/errors.js';
import { type ErrorBody, toErrorResponse } from './error-response.js';
import { RequestError } from './request-error.js';

async function answerTo(thrown: unknown): Promise<{ status: number; headers: Headers } & ErrorBody['error']> {
  const response = toErrorResponse(thrown);
  const { error } = (await response.json()) as ErrorBody;
  return { status: response.status, headers: response.headers, ...error };
}

test('a refusal has its status, the field, the hint, and when to come back', async () => {
  const details = { param: 'messages', hint: 'wait', retryAfterSeconds: 1.2 };
  const answer = await answerTo(new RequestError(429, 'too many', details));
  expect(answer).toMatchObject({
    status: 429,
    type: 'rate_limit_error',
    message: 'too many (wait)',
    param: 'messages',
    code: 'overloaded',
  });
  expect(answer.headers.get('retry-after')).toBe('2');
});

test('a 401 names the scheme', async () => {
  const answer = await answerTo(new RequestError(401, 'no'));
  expect(answer.headers.get('www-authenticate')).toBe('Bearer');
  expect(answer).toMatchObject({ type: 'authentication_error', param: null, code: 'not_allowed' });
});

test.each<[ErrorCode, number]>([
  ['INVALID_INPUT', 400],
  ['CONTEXT_OVERFLOW', 400],
  ['CARTRIDGE_MISMATCH', 400],
  ['NOT_ALLOWED', 403],
  ['NOT_FOUND', 404],
  ['OVERLOADED', 503],
])('%s is shown with status %i', async (code, status) => {
  expect(await answerTo(new CartridgesError(code, 'why'))).toMatchObject({ status, message: 'why', code: code.toLowerCase() });
});

test.each<[unknown, number, string]>([
  [new CartridgesError('FILE_NOT_FOUND', '/home/me/secret does not exist', { hint: '/home/me' }), 500, 'internal'],
  [new CartridgesError('INVALID_CARTRIDGE', '/home/me/secret is damaged'), 500, 'internal'],
  [new CartridgesError('DISK_FULL', 'no space for /home/me/secret'), 507, 'disk_full'],
  [new CartridgesError('ENGINE_FAILURE', 'decode failed at /home/me/secret'), 500, 'engine_failure'],
  [new CartridgesError('ENGINE_DOWN', 'no context for /home/me/secret'), 503, 'engine_down'],
  [new CartridgesError('OUT_OF_MEMORY', '/home/me/secret'), 503, 'out_of_memory'],
  [new CartridgesError('CANCELLED', '/home/me/secret'), 503, 'cancelled'],
  [new TypeError('cannot read /home/me/secret'), 500, 'internal'],
  [new HTTPException(500, { message: '/home/me/secret' }), 500, 'internal'],
  ['/home/me/secret', 500, 'internal'],
])('%o does not tell about the machine', async (thrown, status, code) => {
  const answer = await answerTo(thrown);
  expect(answer).toMatchObject({ status, code, type: 'server_error' });
  expect(JSON.stringify(answer)).not.toContain('/home');
});

test('a cancelled request that ran out of time says so', async () => {
  const cause = new RequestError(408, 'too slow');
  expect(await answerTo(new CartridgesError('CANCELLED', 'cancelled', { cause }))).toMatchObject({
    status: 408,
    message: 'too slow',
  });
});

test('an abort without a reason counts as cancelled', async () => {
  expect(await answerTo(new DOMException('stop', 'AbortError'))).toMatchObject({ status: 503, code: 'cancelled' });
});
