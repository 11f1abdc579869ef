import type { MiddlewareHandler } from 'hono';
import { whenAnswered } from '../http/when-answered.js';
import type { ServerEnv } from '../server-env.js';
import type { Admission } from './admission.js';

/** Takes requests for answers as long as there is room for them, and gives their place back when the answer is complete. */
export function admit(admission: Admission): MiddlewareHandler<ServerEnv> {
  return async function admitRequest(context, next) {
    const place = admission.take(context.get('caller'));
    context.set('place', place);
    await next();
    whenAnswered(context, () => place.leave());
  };
}
