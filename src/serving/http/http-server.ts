import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { getRequestListener, RequestError as UnusableRequest } from '@hono/node-server';
import { CartridgesError } from '../../core/errors.js';
import { toErrorResponse } from '../error-response.js';
import { RequestError } from '../request-error.js';
import { inTurn } from './in-turn.js';

export interface HttpServerOptions {
  fetch: (request: Request, env: object) => Response | Promise<Response>;
  host: string;
  /** 0 takes a free one. */
  port: number;
  maxConnections: number;
  /** Longest time of a request; a connection on which nothing moves for longer is dropped, also while its answer waits to be read. */
  requestSeconds: number;
  /** Longest time in which an upload must have come. */
  uploadSeconds: number;
  /** How long a connection without a request is kept. */
  idleSeconds: number;
}

/** Longest time for the head of a request, so that slow senders do not hold connections. */
const HEADERS_MS = 10_000;
/** For the request's own time limit to be answered first. */
const STALL_GRACE_MS = 1000;
/** How often timeouts of connections are looked at. */
const CHECK_MS = 1000;
/** Between two looks for connections that have become idle while the server stops. */
const SWEEP_MS = 50;
/** For the request of a connection that was just made when the server stops. */
const FIRST_REQUEST_MS = 500;
/** For answers to end after their work was aborted. */
const ABORT_GRACE_MS = 2000;

/** A listening server of Node. */
export class HttpServer {
  readonly url: string;
  readonly #server: Server;
  /** Connections that have sent no request yet; Node does not count them as idle. */
  readonly #unused = new Set<Socket>();

  private constructor(server: Server, host: string) {
    this.#server = server;
    server.on('connection', (socket) => {
      this.#unused.add(socket);
      socket.once('close', () => this.#unused.delete(socket));
    });
    server.on('request', ({ socket }) => this.#unused.delete(socket));
    const { port } = server.address() as AddressInfo;
    this.url = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
  }

  /** Starts listening. Throws `INVALID_OPTION` when the address cannot be used. */
  static async listen({ fetch, host, port, ...limits }: HttpServerOptions): Promise<HttpServer> {
    const listener = getRequestListener(fetch, { overrideGlobalObjects: false, hostname: host, errorHandler: answerTo });
    const timeouts = {
      headersTimeout: HEADERS_MS,
      requestTimeout: Math.max(HEADERS_MS, limits.uploadSeconds * 1000),
      keepAliveTimeout: limits.idleSeconds * 1000,
      connectionsCheckingInterval: CHECK_MS,
    };
    const server = createServer(timeouts, inTurn(listener));
    server.maxConnections = limits.maxConnections;
    // A whole answer or a file that nobody reads would else be held for ever; a stream has a shorter patience of its own.
    server.setTimeout(limits.requestSeconds * 1000 + STALL_GRACE_MS);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) => reject(cannotListen(error, host, port)));
      server.listen(port, host, resolve);
    });
    return new HttpServer(server, host);
  }

  /** Takes no more connections and resolves when the last answer is out; what is not done in time is ended by `abort`. */
  async close(drainSeconds: number, abort: () => void): Promise<void> {
    const closed = new Promise<true>((resolve) => this.#server.close(() => resolve(true)));
    const sweep = setInterval(() => this.#server.closeIdleConnections(), SWEEP_MS);
    const dropUnused = within(closed, FIRST_REQUEST_MS).then(() => {
      for (const socket of this.#unused) socket.destroy();
    });
    if (!(await within(closed, drainSeconds * 1000))) {
      abort();
      if (!(await within(closed, ABORT_GRACE_MS))) this.#server.closeAllConnections();
    }
    await closed;
    await dropUnused;
    clearInterval(sweep);
  }
}

async function within(done: Promise<true>, milliseconds: number): Promise<boolean> {
  const timer = new AbortController();
  const late = setTimeout(milliseconds, false, { signal: timer.signal }).catch(() => false);
  const isDone = await Promise.race([done, late]);
  timer.abort();
  return isDone;
}

/** An address or a host that cannot be read is found before any route. */
function answerTo(error: unknown): Response {
  const isUnusable = error instanceof UnusableRequest;
  return toErrorResponse(isUnusable ? new RequestError(400, `the request cannot be read: ${error.message}`) : error);
}

function cannotListen(error: NodeJS.ErrnoException, host: string, port: number): CartridgesError {
  const reason = error.code === 'EADDRINUSE' ? 'another program listens there' : error.message;
  return new CartridgesError('INVALID_OPTION', `cannot listen on ${host} port ${port}: ${reason}`, {
    hint: 'use another --port, or --port 0 for a free one',
    cause: error,
  });
}
