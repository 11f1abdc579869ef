import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import { json } from '../json-answer.js';
import { createRouter } from '../router.js';
import type { ServerEnv } from '../server-env.js';
import { documentationPage, PAGE_POLICY } from './documentation-page.js';
import type { OpenApiDocument } from './openapi-document.js';

const tags = ['Documentation'];

const documentRoute = createRoute({
  method: 'get',
  path: '/openapi.json',
  tags,
  security: [],
  summary: 'This document',
  responses: { 200: json(z.looseObject({ openapi: z.string() }), 'OpenAPI 3.1') },
});

const pageRoute = createRoute({
  method: 'get',
  path: '/docs',
  tags,
  security: [],
  summary: 'This document as a page',
  responses: { 200: { description: 'A page without scripts', content: { 'text/html': { schema: z.string() } } } },
});

/** `/openapi.json` and `/docs`, for everybody. */
export function documentationRoutes(document: () => OpenApiDocument): OpenAPIHono<ServerEnv> {
  const router = createRouter();
  router.openapi(documentRoute, (context) => context.json({ ...document() }, 200));
  router.openapi(pageRoute, (context) => {
    context.header('content-security-policy', PAGE_POLICY);
    return context.html(documentationPage(document()), 200);
  });
  return router;
}
