import { connect } from 'node:net';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { RequestLifetimes } from '../limits/request-lifetimes.js';
import { createRouter } from '../router.js';
import { HttpServer } from './http-server.js';
import { limitBody } from './limit-body.js';
import { type RequestLogEntry, trackRequests } from './track-request.js';

let log: RequestLogEntry[];
let lifetimes: RequestLifetimes;
/** Requests that have begun and have not ended. */
let underWay: number;
beforeEach(() => {
  log = [];
  underWay = 0;
  lifetimes = new RequestLifetimes();
  const { begin } = RequestLifetimes.prototype;
  vi.spyOn(lifetimes, 'begin').mockImplementation((...given) => {
    const lifetime = begin.apply(lifetimes, given);
    underWay++;
    return {
      signal: lifetime.signal,
      end: () => {
        underWay--;
        lifetime.end();
      },
    };
  });
});
afterEach(() => vi.restoreAllMocks());

function createApp() {
  const app = createRouter();
  app.use(
    trackRequests(lifetimes, { requestSeconds: 60, uploadSeconds: 60 }, (entry) => log.push(entry)),
    limitBody({ maxBodyBytes: 5000, maxUploadBytes: 5000 }),
  );
  app.post('/v1/chat/completions', async (context) => context.json(await context.req.json()));
  app.post('/upload', async (context) => context.text(String((await context.req.arrayBuffer()).byteLength)));
  app.get('/text', () => {
    throw 'thrown';
  });
  return app;
}

it.each([
  ['/v1/chat/completions', 'application/json'],
  ['/upload', 'application/octet-stream'],
])('a client that leaves while its body for %s comes is logged, and nothing is left of it', async (path, type) => {
  const http = await HttpServer.listen({
    fetch: createApp().fetch,
    host: '127.0.0.1',
    port: 0,
    maxConnections: 4,
    requestSeconds: 60,
    uploadSeconds: 60,
    idleSeconds: 60,
  });
  const socket = connect(Number(new URL(http.url).port), '127.0.0.1');
  socket.write(`POST ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: ${type}\r\nContent-Length: 1000\r\n\r\n{"model":`);
  await expect.poll(() => underWay).toBe(1);
  socket.destroy();
  await expect.poll(() => log).toMatchObject([{ method: 'POST', route: path, status: 499, error: undefined }]);
  expect(underWay).toBe(0);
  await http.close(1, () => {});
});

it('a request ends with whatever its route throws', async () => {
  const answer = await createApp().request('/text');
  expect([answer.status, await answer.json()]).toEqual([500, { error: expect.objectContaining({ code: 'internal' }) }]);
  expect(answer.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  expect(log).toMatchObject([{ route: '/text', status: 500, error: { message: 'thrown' } }]);
  expect(underWay).toBe(0);
});
