import type { OpenAPIHono } from '@hono/zod-openapi';
import type { Caller } from './caller.js';
import type { Dispatch, DispatchedResponse } from './dispatch.js';
import { toErrorBody, toErrorResponse } from './error-response.js';
import { replaceRequest } from './http/replace-request.js';
import type { Place } from './limits/place.js';
import type { TokenRates } from './limits/token-rates.js';
import { RequestError } from './request-error.js';
import { createRouter } from './router.js';
import type { ServerEnv } from './server-env.js';
import { WARNING_HEADER } from './warning-header.js';

/** What is handed over beside a line, where nothing that comes over the network gets. */
interface LineEnv {
  caller: Caller;
  place: Place | undefined;
}

/**
 * Calls routes in this process. Lines wait for the token rate of their key, where a client would get 429.
 *
 * @param placeOf  The place of a line that counts against its key; without it none does.
 */
export function createDispatch(
  routes: OpenAPIHono<ServerEnv>,
  rates: TokenRates,
  placeOf: (caller: Caller) => Place | undefined = () => undefined,
): Dispatch {
  const router = createRouter();
  router.use(async (context, next) => {
    const { caller, place } = context.env as unknown as LineEnv;
    context.set('caller', caller);
    context.set('place', place);
    await next();
  });
  router.route('/', routes);
  router.notFound(() => toErrorResponse(new RequestError(404, 'there is no such route for a line of a batch')));
  return async (path, body, caller, signal) => {
    await rates.whenAllowed(caller.scope, signal);
    const place = placeOf(caller);
    try {
      return await readResponse(await router.fetch(requestFor(path, body, signal), { caller, place } satisfies LineEnv));
    } finally {
      place?.leave();
    }
  };
}

function requestFor(path: string, body: unknown, signal: AbortSignal | undefined): Request {
  const headers = { 'content-type': 'application/json' };
  const request = new Request(new URL(path, 'http://localhost'), { method: 'POST', headers, body: JSON.stringify(body) });
  return signal ? replaceRequest(request, { signal }) : request;
}

async function readResponse(response: Response): Promise<DispatchedResponse> {
  const { status, headers } = response;
  if (headers.get('content-type')?.startsWith('application/json')) {
    const warning = headers.get(WARNING_HEADER);
    return { status, body: await response.json(), ...(warning !== null && { warning }) };
  }
  await response.body?.cancel();
  return { status: 400, body: toErrorBody(new RequestError(400, 'a line of a batch cannot be streamed', { param: 'stream' })) };
}
