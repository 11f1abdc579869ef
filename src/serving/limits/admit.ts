import type { MiddlewareHandler } from 'hono';
import { whenAnswered } from '../http/when-answered.js';
import type { ServerEnv } from '../server-env.js';
import type { Admission } from './admission.js';

/** Takes requests for answers as long as there is room for them, and gives the room back when the answer is complete. */
export function admit(admission: Admission): MiddlewareHandler<ServerEnv> {
  return async function admitRequest(context, next) {
    const leave = admission.take(context.get('caller'));
    await next();
    whenAnswered(context, leave);
  };
}
