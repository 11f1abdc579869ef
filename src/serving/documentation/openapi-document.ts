import type { OpenAPIHono } from '@hono/zod-openapi';
import { packageVersion } from '../../core/package.js';
import { refused } from '../json-answer.js';
import type { ServerEnv } from '../server-env.js';

export type OpenApiDocument = ReturnType<OpenAPIHono['getOpenAPI31Document']>;

/** The routes of an app as OpenAPI 3.1, from the schemas that check its requests. */
export function openApiDocument(app: OpenAPIHono<ServerEnv>): OpenApiDocument {
  const document = app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Cartridges',
      version: packageVersion(),
      description:
        'A language model behind cartridges. Errors have the form of OpenAI: `{ "error": { "message", "type", "param", "code" } }`.',
    },
    security: [{ key: [] }],
  });
  const key = { type: 'http' as const, scheme: 'bearer', description: 'Not needed on loopback when the server has no keys.' };
  for (const operation of operationsOf(document)) operation.responses = { default: REFUSED, ...operation.responses };
  return { ...document, components: { ...document.components, securitySchemes: { key } } };
}

/** What stands before every route refuses too: for the key, the media type, the size of a body, or because the server is busy. */
const REFUSED = {
  description: refused.description,
  content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
};

function operationsOf({ paths = {} }: OpenApiDocument) {
  return Object.values(paths).flatMap(({ get, post, put, delete: remove }) =>
    [get, post, put, remove].filter((operation) => operation !== undefined),
  );
}
