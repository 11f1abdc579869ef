import type { HttpBindings } from '@hono/node-server';
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context, MiddlewareHandler } from 'hono';
import { authenticate, type CallerDirectory } from '../auth/authenticate.js';
import { isLoopback } from '../http/host-names.js';
import { refused } from '../json-answer.js';
import { RequestError } from '../request-error.js';
import { createRouter } from '../router.js';
import type { ServerEnv } from '../server-env.js';
import type { ServerMetrics } from './server-metrics.js';

const metricsRoute = createRoute({
  method: 'get',
  path: '/metrics',
  tags: ['Metrics'],
  // With the key of an administrator, or from this machine without one.
  security: [{ key: [] }, {}],
  summary: 'What the server counts and measures',
  description: "In Prometheus' text format.",
  responses: {
    200: { description: 'Every sample', content: { 'text/plain': { schema: z.string() } } },
    401: { ...refused, description: 'From elsewhere without a key that is known' },
    403: { ...refused, description: 'From elsewhere with a key that is not an administrator’s' },
  },
});

/** `/metrics`, for this machine and for admins. */
export function metricsRoutes(metrics: ServerMetrics, directory: CallerDirectory | undefined): OpenAPIHono<ServerEnv> {
  const router = createRouter();
  router.openapi({ ...metricsRoute, middleware: allowReader(directory) }, async (context) =>
    context.body(await metrics.registry.metrics(), 200, { 'content-type': metrics.registry.contentType }),
  );
  return router;
}

function allowReader(directory: CallerDirectory | undefined): MiddlewareHandler<ServerEnv> {
  const identify = authenticate(directory);
  return async function allowMetrics(context, next) {
    if (!isFromThisMachine(context)) {
      await identify(context, async () => {});
      if (!context.get('caller').isAdmin) throw new RequestError(403, 'metrics are for admins');
    }
    await next();
  };
}

/** A proxy on this machine speaks for others, and says so. */
function isFromThisMachine(context: Context): boolean {
  const address = (context.env as Partial<HttpBindings> | undefined)?.incoming?.socket.remoteAddress;
  const isForwarded = ['forwarded', 'x-forwarded-for'].some((name) => context.req.header(name) !== undefined);
  return address !== undefined && isLoopback(address) && !isForwarded;
}
