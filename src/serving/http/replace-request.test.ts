import { expect, test } from 'vitest';
import { replaceRequest } from './replace-request.js';

const original = () => new Request('http://localhost/a?b=1', { method: 'POST', body: 'before', headers: { 'x-a': '1' } });

test('a request keeps what is not replaced, and its signal is the very one that was given', async () => {
  const { signal } = new AbortController();
  const replaced = replaceRequest(replaceRequest(original(), { signal }), { body: Buffer.from('after') });
  expect(replaced.signal).toBe(signal);
  expect([replaced.url, replaced.method, replaced.headers.get('x-a')]).toEqual(['http://localhost/a?b=1', 'POST', '1']);
  expect(await replaced.text()).toBe('after');
  expect(await replaceRequest(original(), { signal }).text()).toBe('before');
});

test.each(['GET', 'HEAD'])('a %s, which has no body, gets its signal too', (method) => {
  const { signal } = new AbortController();
  const replaced = replaceRequest(new Request('http://localhost/a', { method, headers: { 'x-a': '1' } }), { signal });
  expect(replaced.signal).toBe(signal);
  expect([replaced.url, replaced.method, replaced.headers.get('x-a'), replaced.body]).toEqual([
    'http://localhost/a',
    method,
    '1',
    null,
  ]);
});

test('a request that no route takes stays as it is', () => {
  const request = Object.defineProperty(new Request('http://localhost/'), 'method', { value: 'TRACE' });
  expect(replaceRequest(request, {})).toBe(request);
});
