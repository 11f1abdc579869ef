import { createRoute, type OpenAPIHono, type z } from '@hono/zod-openapi';
import { json, refused } from '../json-answer.js';
import { notFound, RequestError } from '../request-error.js';
import { createRouter } from '../router.js';
import type { ServerEnv } from '../server-env.js';
import type { BatchRunner } from './batch-runner.js';
import type { BatchOrder, BatchStore } from './batch-store.js';
import { addFileRoutes } from './file-routes.js';
import { paginate } from './paginate.js';
import { batchListQuery, batchListSchema, batchOrderSchema, batchSchema, idParams, toBatch } from './schemas.js';
import { addSynchronousRoutes, type SynchronousParts } from './synchronous-routes.js';

const tags = ['Batches'];

const createBatchRoute = createRoute({
  method: 'post',
  path: '/v1/batches',
  tags,
  summary: 'Have the requests of a file answered',
  description:
    'The batch is kept on disk and goes on after a restart. A line of the file that is no request ends it as failed; a request ' +
    'that is refused or fails goes to the file of errors, and the others go on.',
  request: { body: { required: true, content: { 'application/json': { schema: batchOrderSchema } } } },
  responses: { 200: json(batchSchema, 'The batch, which has been accepted'), default: refused },
});

const listRoute = createRoute({
  method: 'get',
  path: '/v1/batches',
  tags,
  summary: 'The batches of the key, the newest first',
  request: { query: batchListQuery },
  responses: { 200: json(batchListSchema, 'A page of them'), default: refused },
});

const retrieveRoute = createRoute({
  method: 'get',
  path: '/v1/batches/{id}',
  tags,
  summary: 'One batch',
  request: { params: idParams },
  responses: { 200: json(batchSchema, 'The batch'), default: refused },
});

const cancelRoute = createRoute({
  method: 'post',
  path: '/v1/batches/{id}/cancel',
  tags,
  summary: 'Cancel a batch',
  description: 'Requests under way are stopped; what was answered before is in its files.',
  request: { params: idParams },
  responses: { 200: json(batchSchema, 'The batch, which is being cancelled'), default: refused },
});

export interface BatchRouteParts extends SynchronousParts {
  store: BatchStore;
  runner: BatchRunner;
}

/** Routes for files, batches and synchronous batches. They expect middleware that sets `caller`. */
export function batchRoutes(parts: BatchRouteParts): OpenAPIHono<ServerEnv> {
  const router = createRouter();
  addFileRoutes(router, parts.store);
  addBatchRoutes(router, parts);
  addSynchronousRoutes(router, parts);
  return router;
}

function addBatchRoutes(router: OpenAPIHono<ServerEnv>, { store, runner }: BatchRouteParts): void {
  router.openapi(createBatchRoute, async (context) => {
    const batch = await store.create(context.get('caller').scope, toOrder(context.req.valid('json'), store));
    runner.run(batch);
    return context.json(toBatch(batch), 200);
  });
  router.openapi(listRoute, (context) => {
    const batches = store.list(context.get('caller').scope);
    const found = paginate(batches, context.req.valid('query'), (id) => notFound('batch', id, 'after'));
    return context.json({ ...found, data: found.data.map((batch) => toBatch(runner.withCounts(batch))) }, 200);
  });
  router.openapi(retrieveRoute, (context) => {
    const batch = store.get(context.get('caller').scope, context.req.valid('param').id);
    return context.json(toBatch(runner.withCounts(batch)), 200);
  });
  router.openapi(cancelRoute, async (context) => {
    const batch = await runner.cancel(context.get('caller').scope, context.req.valid('param').id);
    return context.json(toBatch(runner.withCounts(batch)), 200);
  });
}

function toOrder(body: z.output<typeof batchOrderSchema>, { now, limits }: BatchStore): BatchOrder {
  const windowMs = parseWindow(body.completion_window);
  if (windowMs > limits.maxWindowHours * 3_600_000) {
    throw new RequestError(400, `a batch may take at most ${limits.maxWindowHours}h`, { param: 'completion_window' });
  }
  return {
    inputFileId: body.input_file_id,
    endpoint: body.endpoint,
    completionWindow: body.completion_window,
    metadata: body.metadata ?? null,
    outputSeconds: body.output_expires_after?.seconds,
    expiresAtMs: now() + windowMs,
  };
}

const UNIT_MS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds of a window such as `24h`. */
function parseWindow(text: string): number {
  return Number(text.slice(0, -1)) * UNIT_MS[text.at(-1)!]!;
}
