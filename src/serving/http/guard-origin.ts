import type { MiddlewareHandler } from 'hono';
import { RequestError } from '../request-error.js';
import type { ServerEnv } from '../server-env.js';
import { hostName, isLoopback } from './host-names.js';

export interface OriginRules {
  /** The address that the server listens on. */
  host: string;
  /** Origins whose pages may call the server; `*` is all of them. */
  allowOrigins: readonly string[];
}

const READING = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * Keeps web pages away from a server that trusts whoever reaches it. A page can make its own name mean 127.0.0.1, so on loopback
 * only the names of this machine are answered; and it can send a form to any server, so what comes from a page of another origin
 * is refused unless that origin is allowed.
 */
export function guardOrigin({ host, allowOrigins }: OriginRules): MiddlewareHandler<ServerEnv> {
  const onLoopback = isLoopback(host);
  return async function checkOrigin(context, next) {
    const hostHeader = context.req.header('host') ?? new URL(context.req.url).host;
    const name = hostName(hostHeader);
    if (onLoopback && (name === undefined || !(isLoopback(name) || name === host.toLowerCase()))) {
      throw new RequestError(403, 'the server does not answer to this host name', { hint: 'call it by its address' });
    }
    const origin = context.req.header('origin');
    if (origin !== undefined && !READING.has(context.req.method) && !mayCall(origin, hostHeader, allowOrigins)) {
      throw new RequestError(403, 'pages of this origin may not call the server', {
        hint: 'start it with --allow-origin ORIGIN',
      });
    }
    await next();
  };
}

function mayCall(origin: string, hostHeader: string, allowOrigins: readonly string[]): boolean {
  if (allowOrigins.includes('*') || allowOrigins.includes(origin)) return true;
  return URL.canParse(origin) && new URL(origin).host === hostHeader.toLowerCase();
}
