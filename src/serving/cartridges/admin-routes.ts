import { createRoute, type OpenAPIHono } from '@hono/zod-openapi';
import { json } from '../json-answer.js';
import { RequestError } from '../request-error.js';
import { createRouter } from '../router.js';
import type { ServerEnv } from '../server-env.js';
import {
  aliasParams,
  cartridgeDetailsSchema,
  cartridgeListSchema,
  cartridgeSchema,
  deletedSchema,
  idParams,
  toCartridge,
  toDetails,
  uploadBody,
  uploadQuery,
} from './admin-schemas.js';
import { downloadRoutes } from './download-routes.js';
import type { ServedCartridges } from './open-cartridge-library.js';
import { refusals, requireAdmin } from './route-parts.js';

const UPLOAD_TYPE = 'application/octet-stream';

const tags = ['Cartridges'];
const admin = { tags, middleware: requireAdmin };
const one = { ...admin, request: { params: idParams } };

const listRoute = createRoute({
  tags,
  method: 'get',
  path: '/v1/cartridges',
  summary: 'The cartridges that the key may use',
  description: 'An administrator sees all of them.',
  responses: { 200: json(cartridgeListSchema, 'Sorted by id') },
});

const uploadRoute = createRoute({
  ...admin,
  method: 'post',
  path: '/v1/cartridges',
  summary: 'Upload a cartridge',
  description:
    'The body is the file itself. It is visible when all of it is there and verified against the served model; requests that use ' +
    'an older content of the same id keep it.',
  request: { query: uploadQuery, body: { required: true, content: { [UPLOAD_TYPE]: { schema: uploadBody } } } },
  responses: { 201: json(cartridgeSchema, 'It can be used'), ...refusals(400, 403, 408, 409, 413, 429) },
});

const inspectRoute = createRoute({
  ...one,
  method: 'get',
  path: '/v1/cartridges/{id}',
  summary: 'What a cartridge is and how it is used',
  description: 'The id or an alias. The slash of org/name is written %2F, here and in every path below.',
  responses: { 200: json(cartridgeDetailsSchema, 'The cartridge'), ...refusals(400, 403, 404) },
});

const deleteRoute = createRoute({
  ...one,
  method: 'delete',
  path: '/v1/cartridges/{id}',
  summary: 'Delete a cartridge and its aliases',
  description: 'Running requests finish with it. A file that was named at start stays on disk, and is back with the next start.',
  responses: { 200: json(deletedSchema, 'It is gone'), ...refusals(400, 403, 404) },
});

const loadRoute = createRoute({
  ...one,
  method: 'post',
  path: '/v1/cartridges/{id}/load',
  summary: 'Read the rows into the cache before the first request needs them',
  responses: { 200: json(cartridgeSchema, 'They are there'), ...refusals(400, 403, 404) },
});

const unloadRoute = createRoute({
  ...one,
  method: 'post',
  path: '/v1/cartridges/{id}/unload',
  summary: 'Take the rows out of the cache; the next request reads them again',
  responses: { 200: json(cartridgeSchema, 'They are out'), ...refusals(400, 403, 404, 409) },
});

const reloadRoute = createRoute({
  ...one,
  method: 'post',
  path: '/v1/cartridges/{id}/reload',
  summary: 'Read the file anew',
  description: 'Running requests keep the old rows, later ones get the new.',
  responses: { 200: json(cartridgeSchema, 'As it is now'), ...refusals(400, 403, 404, 409, 413) },
});

const setAliasRoute = createRoute({
  ...admin,
  method: 'put',
  path: '/v1/cartridges/{id}/aliases/{alias}',
  summary: 'Give a cartridge one more name, or point an alias to it',
  description: 'A key that may use the alias may use the cartridge behind it.',
  request: { params: aliasParams },
  responses: { 200: json(cartridgeSchema, 'The cartridge'), ...refusals(400, 403, 404, 409) },
});

const deleteAliasRoute = createRoute({
  ...admin,
  method: 'delete',
  path: '/v1/cartridges/{id}/aliases/{alias}',
  summary: 'Remove an alias',
  request: { params: aliasParams },
  responses: { 200: json(deletedSchema, 'It is gone'), ...refusals(400, 403, 404) },
});

/** `/v1/cartridges`: the list for everybody, the rest for administrators. */
export function cartridgeAdminRoutes(library: ServedCartridges): OpenAPIHono<ServerEnv> {
  const router = createRouter();
  // Before the routes with an id, which would take their path for one.
  router.route('/', downloadRoutes(library));
  addReadingRoutes(router, library);
  addChangingRoutes(router, library);
  addCacheRoutes(router, library);
  return router;
}

function addReadingRoutes(router: OpenAPIHono<ServerEnv>, library: ServedCartridges): void {
  router.openapi(listRoute, (context) => {
    const caller = context.get('caller');
    const entries = caller.isAdmin ? library.all() : library.list(caller);
    return context.json({ object: 'list' as const, data: entries.map(toCartridge) }, 200);
  });
  router.openapi(inspectRoute, async (context) => {
    return context.json(toDetails(await library.inspect(context.req.valid('param').id)), 200);
  });
}

function addChangingRoutes(router: OpenAPIHono<ServerEnv>, library: ServedCartridges): void {
  router.openapi(uploadRoute, async (context) => {
    const { id, sha256, replace } = context.req.valid('query');
    const { body: stream, headers, signal } = context.req.raw;
    const announced = headers.get('content-length');
    if (!stream || !headers.get('content-type')?.startsWith(UPLOAD_TYPE)) {
      throw new RequestError(400, `the body has to be the file, as ${UPLOAD_TYPE}`, { param: 'body' });
    }
    const upload = {
      id,
      stream,
      replace: replace === 'true',
      signal,
      ...(announced !== null && { announcedBytes: Number(announced) }),
      ...(sha256 !== undefined && { expectedSha256: sha256 }),
    };
    return context.json(toCartridge(await library.upload(upload, context.get('caller'))), 201);
  });
  router.openapi(deleteRoute, async (context) => {
    const { id } = context.req.valid('param');
    await library.remove(id);
    return context.json({ object: 'cartridge' as const, id, deleted: true as const }, 200);
  });
  router.openapi(setAliasRoute, async (context) => {
    const { id, alias } = context.req.valid('param');
    await library.setAlias(alias, id);
    return context.json(toCartridge(library.get(id)), 200);
  });
  router.openapi(deleteAliasRoute, async (context) => {
    const { id, alias } = context.req.valid('param');
    await library.deleteAlias(alias, id);
    return context.json({ object: 'cartridge.alias' as const, id: alias, deleted: true as const }, 200);
  });
}

function addCacheRoutes(router: OpenAPIHono<ServerEnv>, library: ServedCartridges): void {
  router.openapi(loadRoute, async (context) => {
    const { id } = context.req.valid('param');
    await library.load(id, context.req.raw.signal);
    return context.json(toCartridge(library.get(id)), 200);
  });
  router.openapi(unloadRoute, async (context) => {
    const { id } = context.req.valid('param');
    await library.unload(id);
    return context.json(toCartridge(library.get(id)), 200);
  });
  router.openapi(reloadRoute, async (context) => {
    return context.json(toCartridge(await library.reload(context.req.valid('param').id)), 200);
  });
}
