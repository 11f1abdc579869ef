import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import { json } from './json-answer.js';
import { createRouter } from './router.js';
import type { ServerEnv } from './server-env.js';

/** Whether new requests make sense now, and else why not. */
export type Readiness = { ready: true } | { ready: false; reason: string };

const stateSchema = z.object({ status: z.string() });

const pingRoute = createRoute({
  method: 'get',
  path: '/ping',
  tags: ['Health'],
  // For everybody, with or without keys.
  security: [],
  summary: 'Answers pong',
  responses: { 200: json(z.object({ message: z.literal('pong') }), 'The server is there') },
});

const healthRoute = createRoute({
  method: 'get',
  path: '/health',
  tags: ['Health'],
  security: [],
  summary: 'Whether the process lives',
  responses: { 200: json(stateSchema, 'It does') },
});

const readyRoute = createRoute({
  method: 'get',
  path: '/ready',
  tags: ['Health'],
  security: [],
  summary: 'Whether new requests are taken',
  responses: { 200: json(stateSchema, 'They are'), 503: json(stateSchema, 'They are not; the status says why') },
});

/** `/ping`, `/health` and `/ready`, for everybody; `/ready` says the first reason why not of those that it is given. */
export function healthRoutes(...conditions: readonly (() => Readiness)[]): OpenAPIHono<ServerEnv> {
  const router = createRouter();
  router.openapi(pingRoute, (context) => context.json({ message: 'pong' as const }, 200));
  router.openapi(healthRoute, (context) => context.json({ status: 'ok' }, 200));
  router.openapi(readyRoute, (context) => {
    for (const condition of conditions) {
      const state = condition();
      if (!state.ready) return context.json({ status: state.reason }, 503);
    }
    return context.json({ status: 'ready' }, 200);
  });
  return router;
}
