import type { MiddlewareHandler } from 'hono';
import { json } from '../json-answer.js';
import { errorSchema } from '../openai/response-schemas.js';
import { type RefusalStatus, RequestError } from '../request-error.js';
import type { ServerEnv } from '../server-env.js';

const REFUSALS = {
  400: 'A field is wrong, or the cartridge cannot be used',
  403: 'The key may not administer cartridges',
  404: 'There is no such thing',
  408: 'The body took too long',
  409: 'The state of the library does not allow it',
  413: 'The cartridge is too large',
  429: 'Too many of these run already',
} as const satisfies Partial<Record<RefusalStatus, string>>;

/** Documents refusals; they are thrown as errors, so no handler has to return them. */
export function refusals(...statuses: (keyof typeof REFUSALS)[]): Record<string, ReturnType<typeof json>> {
  return Object.fromEntries(statuses.map((status) => [String(status), json(errorSchema, REFUSALS[status])]));
}

/** Stands before the checks of a request: a key that may not administer learns nothing from them. */
export const requireAdmin: MiddlewareHandler<ServerEnv> = async (context, next) => {
  if (!context.get('caller').isAdmin) throw new RequestError(403, 'this key may not administer cartridges');
  await next();
};
