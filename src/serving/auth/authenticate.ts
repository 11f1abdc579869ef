import type { MiddlewareHandler } from 'hono';
import type { Caller } from '../caller.js';
import { RequestError } from '../request-error.js';
import type { ServerEnv } from '../server-env.js';

/** Finds out who sends a request. */
export interface CallerDirectory {
  /** The holder of a secret, if it is one. */
  find(secret: string): Promise<Caller | undefined>;
}

/** Whoever reaches a server without keys: it listens on this machine alone. */
export const LOCAL_CALLER: Caller = { scope: 'local', isAdmin: true, mayUse: () => true };

/** More bytes than any key has. */
const MAX_SECRET_LENGTH = 512;

/** Puts the caller beside the request, or refuses it with 401. Without a directory everybody is the local caller. */
export function authenticate(directory: CallerDirectory | undefined): MiddlewareHandler<ServerEnv> {
  return async function authenticateRequest(context, next) {
    context.set(
      'caller',
      directory === undefined ? LOCAL_CALLER : await identify(directory, context.req.header('authorization')),
    );
    await next();
  };
}

/** One answer for a missing, a malformed, an unknown and an expired key. */
async function identify(directory: CallerDirectory, authorization: string | undefined): Promise<Caller> {
  const secret = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1] ?? '';
  const caller = secret.length > MAX_SECRET_LENGTH ? undefined : await directory.find(secret);
  if (caller) return caller;
  throw new RequestError(401, 'the API key is missing, unknown or expired', { hint: 'send it as Authorization: Bearer KEY' });
}
