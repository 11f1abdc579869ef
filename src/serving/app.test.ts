import { createRoute, z } from '@hono/zod-openapi';
import { beforeEach, expect, test, vi } from 'vitest';
import { type AppParts, createApp } from './app.js';
import type { Caller } from './caller.js';
import type { Readiness } from './health.js';
import type { RequestLogEntry } from './http/track-request.js';
import { Admission } from './limits/admission.js';
import { RequestLifetimes } from './limits/request-lifetimes.js';
import { TokenRates } from './limits/token-rates.js';
import { ServerMetrics } from './metrics/server-metrics.js';
import { createRouter } from './router.js';

const idle = {
  cells: 0,
  freeCells: 0,
  requestCells: 0,
  cartridgeCells: 0,
  cachedTurnCells: 0,
  running: 0,
  waiting: 0,
  residentCartridges: 0,
  storedTurnBytes: 0,
  lostTurns: 0,
  decodeSeconds: 1.5,
};
const holders: Record<string, Caller> = {
  user: { scope: 'key_user', isAdmin: false, mayUse: () => false },
  admin: { scope: 'key_admin', isAdmin: true, mayUse: () => true },
};
const keys = { find: async (secret: string) => holders[secret] };
const JSON_TYPE = { 'content-type': 'application/json' };

let log: RequestLogEntry[];
let readiness: Readiness;
let engine: Readiness;
/** Lets the answer of `/stream` go on. */
let finishStream: () => void;
beforeEach(() => {
  log = [];
  readiness = { ready: true };
  engine = { ready: true };
});

const echo = createRoute({
  method: 'post',
  path: '/v1/echo',
  request: { body: { required: true, content: { 'application/json': { schema: z.strictObject({ text: z.string() }) } } } },
  responses: { 200: { description: 'The same', content: { 'application/json': { schema: z.object({ text: z.string() }) } } } },
});

function createRoutes() {
  const router = createRouter();
  router.openapi(echo, (context) => context.json(context.req.valid('json'), 200));
  router.post('/upload', async (context) => context.text(String((await context.req.arrayBuffer()).byteLength)));
  router.get('/whoami', (context) => context.json({ scope: context.get('caller').scope }));
  router.post('/fail', () => {
    throw new Error('cannot read /home/me');
  });
  router.on(['GET', 'POST'], '/wait', async (context) => {
    const { signal } = context.req.raw;
    await new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new DOMException('', 'AbortError'))));
    return context.text('never');
  });
  router.post('/stream', (context) => {
    const gate = new Promise<void>((resolve) => {
      finishStream = resolve;
    });
    const chunks = (async function* () {
      yield new TextEncoder().encode('a');
      await gate;
      yield new TextEncoder().encode('b');
    })();
    return context.body(ReadableStream.from(chunks) as ReadableStream, 200, { 'content-type': 'text/event-stream' });
  });
  return router;
}

function createTestApp(parts: Partial<AppParts> = {}) {
  const admission = new Admission({ maxRequests: 1, queueSize: 0, concurrencyOf: () => 9 }, new TokenRates(() => undefined), {
    all: () => 0,
    of: () => 0,
  });
  return createApp({
    routes: [createRoutes()],
    answeringPaths: ['/stream', '/wait'],
    keys: undefined,
    origins: { host: '127.0.0.1', allowOrigins: [] },
    bodyLimits: { maxBodyBytes: 1000, maxUploadBytes: 5000 },
    timeLimits: { requestSeconds: 60, uploadSeconds: 60 },
    admission,
    lifetimes: new RequestLifetimes(),
    metrics: new ServerMetrics(() => idle),
    readiness: () => readiness,
    engineReadiness: () => engine,
    onLog: (entry) => log.push(entry),
    ...parts,
  });
}

const post = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = JSON_TYPE) => ({
  method: 'POST',
  body,
  headers,
});

test.each([
  [undefined, 401],
  ['Bearer nobody', 401],
  ['Bearer', 401],
  ['Basic user', 401],
  ['Bearer user extra', 401],
  [`Bearer ${'x'.repeat(5000)}`, 401],
  ['Bearer user', 200],
  ['bearer admin', 200],
])('with the authorization %s: %i', async (authorization, status) => {
  const app = createTestApp({ keys });
  const headers: Record<string, string> = authorization === undefined ? {} : { authorization };
  const answers = await Promise.all(['/whoami', '/no/such/route'].map((path) => app.request(path, { headers })));
  expect(answers.map((answer) => answer.status)).toEqual([status, status === 200 ? 404 : 401]);
  if (status === 200) return;
  const bodies = await Promise.all(answers.map((answer) => answer.text()));
  expect(bodies[0]).toBe(bodies[1]);
  expect(JSON.parse(bodies[0]!)).toMatchObject({ error: { type: 'authentication_error', param: null, code: 'not_allowed' } });
});

test('without keys everybody is the local caller', async () => {
  expect(await (await createTestApp().request('/whoami')).json()).toEqual({ scope: 'local' });
});

test.each(['/ping', '/health', '/ready', '/docs', '/openapi.json'])('%s needs no key', async (path) => {
  expect((await createTestApp({ keys }).request(path)).status).toBe(200);
});

test('metrics are for admins, and for this machine unless a proxy stands before it', async () => {
  const app = createTestApp({ keys });
  const read = async (headers: Record<string, string>, remoteAddress?: string) =>
    (await app.request('/metrics', { headers }, { incoming: { socket: { remoteAddress } } })).status;
  expect(await read({})).toBe(401);
  expect(await read({ authorization: 'Bearer user' }, '10.0.0.1')).toBe(403);
  expect(await read({ authorization: 'Bearer admin' }, '10.0.0.1')).toBe(200);
  expect(await read({}, '::ffff:127.0.0.1')).toBe(200);
  expect(await read({ 'x-forwarded-for': '10.0.0.1' }, '127.0.0.1')).toBe(401);
});

test('on loopback only names of this machine are answered', async () => {
  const read = async (host: string, bound = '127.0.0.1') =>
    (await createTestApp({ origins: { host: bound, allowOrigins: [] } }).request('/whoami', { headers: { host } })).status;
  expect(await read('localhost:8321')).toBe(200);
  expect(await read('[::1]')).toBe(200);
  expect(await read('evil.com')).toBe(403);
  expect(await read('127.0.0.1.evil.com')).toBe(403);
  expect(await read('')).toBe(403);
  expect(await read('evil.com', '0.0.0.0')).toBe(200);
});

test('pages of other origins may not call, unless they are allowed', async () => {
  const call = async (origin: string, allowOrigins: string[] = []) => {
    const app = createTestApp({ origins: { host: '127.0.0.1', allowOrigins } });
    return app.request('/v1/echo', post('{"text":"a"}', { ...JSON_TYPE, host: 'localhost:8321', origin }));
  };
  expect((await call('http://localhost:8321')).status).toBe(200);
  for (const origin of ['http://evil.com', 'http://localhost:9999', 'null', 'x']) expect((await call(origin)).status).toBe(403);
  expect((await call('http://app.test', ['http://other.test'])).status).toBe(403);
  const allowed = await call('http://app.test', ['http://app.test']);
  expect([allowed.status, allowed.headers.get('access-control-allow-origin')]).toEqual([200, 'http://app.test']);
});

test('a preflight is answered for allowed origins alone', async () => {
  const app = createTestApp({ keys, origins: { host: '127.0.0.1', allowOrigins: ['http://app.test'] } });
  const ask = async (origin: string) => {
    const headers = { origin, 'access-control-request-method': 'POST' };
    return (await app.request('/v1/echo', { method: 'OPTIONS', headers })).headers.get('access-control-allow-origin');
  };
  expect([await ask('http://app.test'), await ask('http://evil.com')]).toEqual(['http://app.test', null]);
});

test('bodies are bounded, announced or not; uploads have a bound of their own', async () => {
  const app = createTestApp();
  const upload = { 'content-type': 'application/octet-stream' };
  const text = JSON.stringify({ text: 'x'.repeat(2000) });
  expect((await app.request('/v1/echo', post(text))).status).toBe(413);
  expect((await app.request('/v1/echo', post(text, { ...JSON_TYPE, 'content-length': '99' }))).status).toBe(413);
  expect((await app.request('/v1/echo', post('{"text":"a"}', { ...JSON_TYPE, 'content-length': '9999' }))).status).toBe(413);
  for (const type of ['application/octet-stream', 'application/octet-stream; a=b', 'Multipart/Form-Data ;boundary=x']) {
    const large = await app.request('/upload', post(new Uint8Array(4000), { 'content-type': type }));
    expect(await large.text()).toBe('4000');
  }
  expect((await app.request('/upload', post(new Uint8Array(6000), upload))).status).toBe(413);
});

test.each(['application/octet-stream+json', 'multipart/form-data+json', 'application/octet-stream-x+json'])(
  'a body of the type %s is JSON, with the bounds of JSON',
  async (type) => {
    const app = createTestApp({ timeLimits: { requestSeconds: 0.05, uploadSeconds: 60 } });
    const headers = { 'content-type': type };
    expect((await app.request('/v1/echo', post(JSON.stringify({ text: 'x'.repeat(2000) }), headers))).status).toBe(413);
    const deep = await app.request('/v1/echo', post('['.repeat(200), headers));
    expect(await deep.json()).toMatchObject({ error: { message: expect.stringContaining('128 levels') } });
    const body = new ReadableStream({ pull: () => new Promise(() => {}) });
    const slow = await app.request('/v1/echo', { method: 'POST', body, headers, duplex: 'half' } as RequestInit);
    expect(slow.status).toBe(408);
  },
);

test('a body that is nested too deep is refused before it is parsed, a sensible one is not', async () => {
  const app = createTestApp({ bodyLimits: { maxBodyBytes: 8 << 20, maxUploadBytes: 1 } });
  const started = performance.now();
  const refused = await app.request('/v1/echo', post('[{"a":'.repeat(1 << 20)));
  expect(performance.now() - started).toBeLessThan(5000);
  expect(await refused.json()).toMatchObject({ error: { message: expect.stringContaining('128 levels') } });
  const shallow = await app.request('/v1/echo', post(`{"text":"${'['.repeat(1000)}"}`));
  expect(shallow.status).toBe(200);
});

test('a request without a key is refused before its body is looked at', async () => {
  const app = createTestApp({ keys });
  expect((await app.request('/v1/echo', post('x'.repeat(2000)))).status).toBe(401);
});

test('every answer has an id and headers that hold browsers back', async () => {
  const app = createTestApp();
  const own = await app.request('/ping', { headers: { 'x-request-id': 'abc-1' } });
  expect(own.headers.get('x-request-id')).toBe('abc-1');
  expect(own.headers.get('x-content-type-options')).toBe('nosniff');
  expect(own.headers.get('content-security-policy')).toContain("default-src 'none'");
  const bad = await app.request('/nope', { headers: { 'x-request-id': 'a b"' } });
  expect(bad.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
});

test('the log has a line for each request, with the error when the server failed, and nothing that was sent', async () => {
  const app = createTestApp({ keys });
  const authorization = 'Bearer user';
  await app.request('/v1/echo?secret=1', post('{"text":"secret"}', { ...JSON_TYPE, authorization }));
  await app.request('/fail', post('', { ...JSON_TYPE, authorization }));
  await app.request('/nope');
  expect(log).toMatchObject([
    { method: 'POST', path: '/v1/echo', route: '/v1/echo', status: 200, scope: 'key_user', error: undefined },
    { path: '/fail', status: 500, error: { message: 'cannot read /home/me' } },
    { path: '/nope', route: 'none', status: 401, scope: undefined },
  ]);
  expect(JSON.stringify(log)).not.toContain('secret');
});

test('room is taken until the last byte of a stream, or until its reader leaves', async () => {
  const app = createTestApp();
  const first = await app.request('/stream', post('{}'));
  const refused = await app.request('/stream', post('{}'));
  expect([refused.status, Number(refused.headers.get('retry-after'))]).toEqual([429, expect.any(Number)]);
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  finishStream();
  expect(await first.text()).toBe('ab');
  const second = await app.request('/stream', post('{}'));
  expect((await app.request('/stream', post('{}'))).status).toBe(429);
  await second.body!.cancel();
  expect((await app.request('/stream', post('{}'))).status).toBe(200);
});

test('a request that takes too long is ended, with its reason', async () => {
  const app = createTestApp({ timeLimits: { requestSeconds: 0.05, uploadSeconds: 1 } });
  for (const init of [post('{}'), {}]) {
    const answer = await app.request('/wait', init);
    expect(answer.status).toBe(408);
    expect(await answer.json()).toMatchObject({ error: { message: expect.stringContaining('0.05 s') } });
  }
});

test('a HEAD is over with its head', async () => {
  const lifetimes = new RequestLifetimes();
  const ends = vi.fn();
  vi.spyOn(lifetimes, 'begin').mockReturnValue({ signal: new AbortController().signal, end: ends });
  const head = await createTestApp({ lifetimes }).request('/docs', { method: 'HEAD' });
  expect([head.status, await head.text()]).toEqual([200, '']);
  await expect.poll(() => log).toMatchObject([{ method: 'HEAD', path: '/docs', status: 200 }]);
  expect(ends).toHaveBeenCalledOnce();
});

test('a body that does not come is not waited for', async () => {
  const app = createTestApp({ timeLimits: { requestSeconds: 0.05, uploadSeconds: 0.05 } });
  const body = () => new ReadableStream({ pull: () => new Promise(() => {}) });
  const send = (path: string, type: string) =>
    app.request(path, { method: 'POST', body: body(), headers: { 'content-type': type }, duplex: 'half' } as RequestInit);
  expect((await send('/v1/echo', 'application/json')).status).toBe(408);
  expect((await send('/upload', 'application/octet-stream')).status).toBe(408);
});

test('a server that stops says so, and takes nothing new', async () => {
  const app = createTestApp();
  readiness = { ready: false, reason: 'the server is stopping' };
  expect((await app.request('/ready')).status).toBe(503);
  expect((await app.request('/health')).status).toBe(200);
  const refused = await app.request('/whoami');
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '5']);
});

test('an engine that cannot answer is told by /ready, and what needs none goes on', async () => {
  const app = createTestApp();
  engine = { ready: false, reason: 'the engine failed, and it cannot be started anew' };
  const ready = await app.request('/ready');
  expect([ready.status, await ready.json()]).toEqual([503, { status: 'the engine failed, and it cannot be started anew' }]);
  for (const path of ['/health', '/whoami']) expect((await app.request(path)).status).toBe(200);
});

test('requests are counted by route and status, not by path', async () => {
  const metrics = new ServerMetrics(() => idle);
  const app = createTestApp({ metrics });
  for (const path of ['/ping', '/ping', '/a', '/b']) await (await app.request(path)).text();
  const text = await metrics.registry.metrics();
  expect(text).toContain('cartridges_http_requests_total{method="GET",route="/ping",status="200"} 2');
  expect(text).toContain('cartridges_http_requests_total{method="GET",route="none",status="404"} 2');
});

test('time in decodes is what the engine says, however often it is asked', async () => {
  const metrics = new ServerMetrics(() => idle);
  await metrics.registry.metrics();
  expect(await metrics.registry.metrics()).toMatch(/^cartridges_decode_seconds_total 1.5$/m);
});

test('the document describes what stands beside the modules, with media types and refusals', async () => {
  const { paths } = (await (await createTestApp().request('/openapi.json')).json()) as {
    paths: Record<string, { get: { security: object[]; responses: Record<string, { content: object }> } }>;
  };
  const described = ['/metrics', '/docs', '/openapi.json'].map((path) => {
    const { security, responses } = paths[path]!.get;
    const types = Object.entries(responses).map(([status, { content }]) => [status, Object.keys(content).join()]);
    return [path, security, Object.fromEntries(types)];
  });
  const refusal = 'application/json';
  expect(described).toEqual([
    ['/metrics', [{ key: [] }, {}], { 200: 'text/plain', 401: refusal, 403: refusal, default: refusal }],
    ['/docs', [], { 200: 'text/html', default: refusal }],
    ['/openapi.json', [], { 200: 'application/json', default: refusal }],
  ]);
});

test('the document and the page show the routes of the modules', async () => {
  const app = createTestApp();
  const document = (await (await app.request('/openapi.json')).json()) as { paths: object; components: object };
  expect(Object.keys(document.paths)).toEqual(expect.arrayContaining(['/ping', '/health', '/ready', '/v1/echo']));
  expect(document.components).toMatchObject({ securitySchemes: { key: { type: 'http', scheme: 'bearer' } } });
  const page = await app.request('/docs');
  const text = await page.text();
  expect(text).toContain('/v1/echo');
  expect(text).not.toContain('<script');
  expect(page.headers.get('content-security-policy')).toMatch(/style-src 'sha256-/);
});
