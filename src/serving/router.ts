import { OpenAPIHono } from '@hono/zod-openapi';
import type { ZodError } from 'zod';
import { toErrorResponse } from './error-response.js';
import { RequestError } from './request-error.js';
import type { ServerEnv } from './server-env.js';

/**
 * A router whose refusals all have the shape of OpenAI's errors. A route with a body says `required: true` of it, since a body
 * that may be missing is not checked when its media type is missing.
 */
export function createRouter(): OpenAPIHono<ServerEnv> {
  const router = new OpenAPIHono<ServerEnv>({
    defaultHook: (result) => (result.success ? undefined : toErrorResponse(fromZod(result.error))),
  });
  router.onError((error) => toErrorResponse(error));
  return router;
}

/** The first thing that is wrong with a request. */
export function fromZod(error: ZodError): RequestError {
  const issue = error.issues[0]!;
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
  const param = formatPath([...issue.path, ...unknown]);
  if (unknown.length > 0) return new RequestError(400, `the field ${param} is not supported`, { param });
  return new RequestError(400, param === '' ? issue.message : `${param}: ${issue.message}`, { param });
}

/** `messages[2].content` */
function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    return text === '' ? String(part) : `${text}.${String(part)}`;
  }, '');
}
