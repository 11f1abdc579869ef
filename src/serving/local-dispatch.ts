import type { OpenAPIHono } from '@hono/zod-openapi';
import type { Caller } from './caller.js';
import type { Dispatch } from './dispatch.js';
import { toErrorBody, toErrorResponse } from './error-response.js';
import { replaceRequest } from './http/replace-request.js';
import type { TokenRates } from './limits/token-rates.js';
import { RequestError } from './request-error.js';
import { createRouter } from './router.js';
import type { ServerEnv } from './server-env.js';

/**
 * Calls routes in this process. The caller is handed over beside the request, where nothing that comes over the network gets.
 * Nobody waits in front of a batch, so its lines wait for the token rate of their key, where a client would get 429.
 */
export function createDispatch(routes: OpenAPIHono<ServerEnv>, rates: TokenRates): Dispatch {
  const router = createRouter();
  router.use(async (context, next) => {
    context.set('caller', (context.env as unknown as { caller: Caller }).caller);
    await next();
  });
  router.route('/', routes);
  router.notFound(() => toErrorResponse(new RequestError(404, 'there is no such route for a line of a batch')));
  return async (path, body, caller, signal) => {
    await rates.whenAllowed(caller.scope, signal);
    return readResponse(await router.fetch(requestFor(path, body, signal), { caller }));
  };
}

function requestFor(path: string, body: unknown, signal: AbortSignal | undefined): Request {
  const headers = { 'content-type': 'application/json' };
  const request = new Request(new URL(path, 'http://localhost'), { method: 'POST', headers, body: JSON.stringify(body) });
  return signal ? replaceRequest(request, { signal }) : request;
}

async function readResponse(response: Response): Promise<{ status: number; body: unknown }> {
  if (response.headers.get('content-type')?.startsWith('application/json')) {
    return { status: response.status, body: await response.json() };
  }
  await response.body?.cancel();
  return { status: 400, body: toErrorBody(new RequestError(400, 'a line of a batch cannot be streamed', { param: 'stream' })) };
}
