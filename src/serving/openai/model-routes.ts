import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import type { Caller } from '../caller.js';
import type { CartridgeLibrary } from '../cartridges/cartridge-library.js';
import { json } from '../json-answer.js';
import { notFound } from '../request-error.js';
import type { ServedModel } from '../served-model.js';
import type { ServerEnv } from '../server-env.js';
import { errorSchema, modelListSchema, modelSchema } from './response-schemas.js';

const listRoute = createRoute({
  method: 'get',
  path: '/v1/models',
  tags: ['Models'],
  summary: 'The model, and the model behind each cartridge that the key may use',
  responses: { 200: json(modelListSchema, 'The models.') },
});

const oneRoute = createRoute({
  method: 'get',
  path: '/v1/models/{model}',
  tags: ['Models'],
  summary: 'One model',
  request: { params: z.object({ model: z.string() }) },
  responses: {
    200: json(modelSchema, 'The model.'),
    404: json(errorSchema, 'There is none with this id that the key may use.'),
  },
});

export function addModelRoutes(router: OpenAPIHono<ServerEnv>, model: ServedModel, library: CartridgeLibrary): void {
  router.openapi(listRoute, (context) => {
    return context.json({ object: 'list' as const, data: listModels(model, library, context.get('caller')) }, 200);
  });
  router.openapi(oneRoute, (context) => {
    const { model: id } = context.req.valid('param');
    const found = listModels(model, library, context.get('caller')).find((entry) => entry.id === id);
    if (!found) throw notFound('model', id, 'model');
    return context.json(found, 200);
  });
}

/** The bare model, then the model with every name and alias of a cartridge. */
function listModels({ name, createdAt }: ServedModel, library: CartridgeLibrary, caller: Caller) {
  const behindCartridges = library
    .list(caller)
    .flatMap(({ id, aliases, createdAt }) => [id, ...aliases].map((alias) => describe(`${name}:${alias}`, createdAt)));
  return [describe(name, createdAt), ...behindCartridges];
}

function describe(id: string, created: number) {
  return { id, object: 'model' as const, created: Math.floor(created), owned_by: 'cartridges' };
}
