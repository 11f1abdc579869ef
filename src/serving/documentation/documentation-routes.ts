import type { OpenAPIHono } from '@hono/zod-openapi';
import { createRouter } from '../router.js';
import type { ServerEnv } from '../server-env.js';
import { documentationPage, PAGE_POLICY } from './documentation-page.js';
import type { OpenApiDocument } from './openapi-document.js';

/** `/openapi.json` and `/docs`, for everybody. */
export function documentationRoutes(document: () => OpenApiDocument): OpenAPIHono<ServerEnv> {
  const router = createRouter();
  router.get('/openapi.json', (context) => context.json(document()));
  router.get('/docs', (context) => {
    context.header('content-security-policy', PAGE_POLICY);
    return context.html(documentationPage(document()));
  });
  return router;
}
