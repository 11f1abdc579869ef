import { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, expect, it, vi } from 'vitest';
import { inTurn } from './in-turn.js';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

/** A connection to a server with this listener. */
async function connectTo(listener: RequestListener): Promise<Socket> {
  const server = createServer(inTurn(listener)).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {});
  closers.push(() => {
    socket.destroy();
    server.close();
  });
  return socket;
}

function send(socket: Socket, ...paths: string[]): void {
  socket.write(paths.map((path) => `GET ${path} HTTP/1.1\r\nhost: here\r\n\r\n`).join(''));
}

it('begins requests of one connection one after the other', async () => {
  const begun: string[] = [];
  const socket = await connectTo(({ url = '' }, outgoing) => {
    begun.push(url);
    setTimeout(() => {
      expect(begun.at(-1)).toBe(url);
      outgoing.end(`answer to ${url};`);
    }, 5);
  });
  send(socket, '/a', '/b', '/c');
  let text = '';
  for await (const bytes of socket) {
    text += bytes;
    if (text.includes('answer to /c;')) break;
  }
  expect(begun).toEqual(['/a', '/b', '/c']);
  expect(text.match(/answer to \/\w/g)).toEqual(['answer to /a', 'answer to /b', 'answer to /c']);
});

it('never begins those whose connection has ended, and says so to the one that runs', async () => {
  const begun: string[] = [];
  const closed = vi.fn();
  const socket = await connectTo(({ url = '' }, outgoing) => {
    begun.push(url);
    outgoing.once('close', closed);
    outgoing.write('some, the rest never');
  });
  send(socket, '/a', '/b');
  await new Promise((resolve) => socket.once('data', resolve));
  socket.destroy();
  await expect.poll(() => closed).toHaveBeenCalledOnce();
  await new Promise(setImmediate);
  expect(begun).toEqual(['/a']);
});

it('cuts off who sends on and on without waiting', async () => {
  const socket = await connectTo((_, outgoing) => void outgoing.write('some, the rest never'));
  const ended = new Promise((resolve) => socket.once('close', resolve));
  socket.resume();
  send(socket, ...Array.from({ length: 17 }, (_, index) => `/${index}`));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(socket.destroyed).toBe(false);
  send(socket, '/one-too-many');
  await ended;
});
