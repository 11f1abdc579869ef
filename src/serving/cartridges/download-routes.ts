import { createRoute, type OpenAPIHono } from '@hono/zod-openapi';
import { json } from '../json-answer.js';
import { RequestError } from '../request-error.js';
import { createRouter } from '../router.js';
import type { ServerEnv } from '../server-env.js';
import { downloadBody, downloadListSchema, downloadSchema, idParams, toDownload } from './admin-schemas.js';
import type { ServedCartridges } from './open-cartridge-library.js';
import { refusals, requireAdmin } from './route-parts.js';

const shared = { tags: ['Cartridges'], middleware: requireAdmin };

const startRoute = createRoute({
  ...shared,
  method: 'post',
  path: '/v1/cartridges/downloads',
  summary: 'Start a download, or join the one of the same cartridge that runs',
  description:
    'It runs beside serving. The cartridge is visible when it is complete and verified; a failure leaves what was there.',
  request: { body: { required: true, content: { 'application/json': { schema: downloadBody } } } },
  responses: { 202: json(downloadSchema, 'It runs'), ...refusals(400, 403, 409, 413, 429) },
});

const listRoute = createRoute({
  ...shared,
  method: 'get',
  path: '/v1/cartridges/downloads',
  summary: 'Running downloads and the last one of each cartridge',
  responses: { 200: json(downloadListSchema, 'The newest first'), ...refusals(403) },
});

const getRoute = createRoute({
  ...shared,
  method: 'get',
  path: '/v1/cartridges/downloads/{id}',
  summary: 'How far the download of a cartridge is',
  request: { params: idParams },
  responses: { 200: json(downloadSchema, 'Its state'), ...refusals(400, 403, 404) },
});

const cancelRoute = createRoute({
  ...shared,
  method: 'delete',
  path: '/v1/cartridges/downloads/{id}',
  summary: 'Cancel a download for all who wait for it',
  request: { params: idParams },
  responses: { 200: json(downloadSchema, 'It has ended'), ...refusals(400, 403, 404) },
});

/** `/v1/cartridges/downloads`, for administrators. */
export function downloadRoutes(library: ServedCartridges): OpenAPIHono<ServerEnv> {
  const router = createRouter();
  const find = (id: string) => {
    const status = library.downloads.get(id);
    if (!status) throw new RequestError(404, `there is no download of ${JSON.stringify(id)}`);
    return toDownload(status);
  };
  router.openapi(startRoute, (context) => {
    const { id, source, force_redownload: force } = context.req.valid('json');
    return context.json(toDownload(library.startDownload(id, source, context.get('caller'), force)), 202);
  });
  router.openapi(listRoute, (context) => {
    return context.json({ object: 'list' as const, data: library.downloads.list().map(toDownload) }, 200);
  });
  router.openapi(getRoute, (context) => context.json(find(context.req.valid('param').id), 200));
  router.openapi(cancelRoute, async (context) => {
    const { id } = context.req.valid('param');
    await library.downloads.cancel(id);
    return context.json(find(id), 200);
  });
  return router;
}
