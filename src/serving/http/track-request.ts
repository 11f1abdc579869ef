import { randomUUID } from 'node:crypto';
import type { Context, MiddlewareHandler } from 'hono';
import { matchedRoutes } from 'hono/route';
import { toCartridgesError } from '../../core/errors.js';
import { toErrorResponse } from '../error-response.js';
import type { RequestLifetimes } from '../limits/request-lifetimes.js';
import { RequestError } from '../request-error.js';
import type { ServerEnv } from '../server-env.js';
import { replaceRequest } from './replace-request.js';
import { isUpload } from './upload.js';
import { whenAnswered } from './when-answered.js';

/** What the log has of a request, when it is over: never a key, nor anything that was asked or answered. */
export interface RequestLogEntry {
  requestId: string;
  method: string;
  /** Without the query. */
  path: string;
  /** The pattern that the path matched, such as `/v1/files/:id`. */
  route: string;
  status: number;
  milliseconds: number;
  /** The caller's scope, when it was found out. */
  scope: string | undefined;
  /** What a route threw, when the server was at fault. */
  error: Error | undefined;
}

/** In logs and metrics, in place of the status that nobody read: the client was not waiting any more. */
const CLIENT_LEFT = 499;
const REQUEST_ID = /^[\w.-]{1,64}$/;
/** Paths have no end that HTTP sets. */
const MAX_LOGGED_PATH = 200;

/** How long a request may take, with its answer. */
export interface TimeLimits {
  requestSeconds: number;
  uploadSeconds: number;
}

/** Gives every request an id and a lifetime, and tells `onEnd` when its answer is complete. */
export function trackRequests(
  lifetimes: RequestLifetimes,
  { requestSeconds, uploadSeconds }: TimeLimits,
  onEnd: (entry: RequestLogEntry) => void,
): MiddlewareHandler<ServerEnv> {
  return async function trackRequest(context, next) {
    const started = performance.now();
    const lifetime = lifetimes.begin(context.req.raw.signal, isUpload(context) ? uploadSeconds : requestSeconds);
    context.set('requestId', requestIdOf(context));
    context.req.raw = replaceRequest(context.req.raw, lifetime);
    await next().catch((thrown) => answerThrown(context, thrown));
    const { reason } = lifetime.signal;
    if (context.error && reason instanceof RequestError) context.res = toErrorResponse(reason);
    context.res.headers.set('x-request-id', context.get('requestId'));
    whenAnswered(context, () => {
      lifetime.end();
      const isAbandoned = lifetime.signal.aborted && !(lifetime.signal.reason instanceof RequestError);
      const status = isAbandoned ? CLIENT_LEFT : context.res.status;
      onEnd(logEntry(context, status, performance.now() - started));
    });
  };
}

/** Hono hands on what is thrown and is no Error. */
function answerThrown(context: Context, thrown: unknown): void {
  context.error = toCartridgesError(thrown);
  context.res = toErrorResponse(context.error);
}

/** The client's own id, when it can be written into a log and a header as it is. */
function requestIdOf(context: Context): string {
  const given = context.req.header('x-request-id') ?? '';
  return REQUEST_ID.test(given) ? given : randomUUID();
}

function logEntry(context: Context<ServerEnv>, status: number, milliseconds: number): RequestLogEntry {
  return {
    requestId: context.get('requestId'),
    method: context.req.method,
    path: context.req.path.slice(0, MAX_LOGGED_PATH),
    route: routeOf(context),
    status,
    milliseconds,
    // Not there yet when the request was refused before its key was read.
    scope: (context.get('caller') as { scope: string } | undefined)?.scope,
    error: status >= 500 ? context.error : undefined,
  };
}

/** Middleware matches every path; a route has one of its own. */
function routeOf(context: Context): string {
  return matchedRoutes(context).findLast(({ path }) => !path.includes('*'))?.path ?? 'none';
}
