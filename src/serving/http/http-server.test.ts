import { connect } from 'node:net';
import { expect, it } from 'vitest';
import { HttpServer } from './http-server.js';

/** More than the system keeps of an answer that nobody reads. */
const ANSWER_BYTES = 64 << 20;

it('drops a reader of a whole answer who takes nothing any more', async () => {
  const http = await HttpServer.listen({
    fetch: () => new Response(new Uint8Array(ANSWER_BYTES)),
    host: '127.0.0.1',
    port: 0,
    maxConnections: 4,
    requestSeconds: 0.1,
    uploadSeconds: 60,
    idleSeconds: 60,
  });
  const started = performance.now();
  const socket = connect(Number(new URL(http.url).port), '127.0.0.1');
  socket.write('GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n');
  let taken = 0;
  socket.once('data', (bytes) => {
    taken += bytes.length;
    socket.pause();
    // The end is seen only by those who read on.
    setTimeout(() => socket.on('data', (more) => (taken += more.length)).resume(), 4000);
  });
  await new Promise((resolve) => socket.once('close', resolve).on('error', () => {}));
  expect(taken).toBeGreaterThan(0);
  expect(taken).toBeLessThan(ANSWER_BYTES);
  expect(performance.now() - started).toBeLessThan(10_000);
  await http.close(1, () => {});
}, 20_000);
