import type { OpenAPIHono } from '@hono/zod-openapi';
import { cors } from 'hono/cors';
import { authenticate, type CallerDirectory } from './auth/authenticate.js';
import { documentationRoutes } from './documentation/documentation-routes.js';
import { openApiDocument } from './documentation/openapi-document.js';
import { toErrorResponse } from './error-response.js';
import { healthRoutes, type Readiness } from './health.js';
import { guardOrigin, type OriginRules } from './http/guard-origin.js';
import { type BodyLimits, limitBody } from './http/limit-body.js';
import { securityHeaders } from './http/security-headers.js';
import { type RequestLogEntry, type TimeLimits, trackRequests } from './http/track-request.js';
import type { Admission } from './limits/admission.js';
import { admit } from './limits/admit.js';
import type { RequestLifetimes } from './limits/request-lifetimes.js';
import { metricsRoutes } from './metrics/metrics-route.js';
import type { ServerMetrics } from './metrics/server-metrics.js';
import { RequestError } from './request-error.js';
import { createRouter } from './router.js';
import type { ServerEnv } from './server-env.js';
import { WARNING_HEADER } from './warning-header.js';

/** What an app is put together from. */
export interface AppParts {
  /** Routers of the API. */
  routes: readonly OpenAPIHono<ServerEnv>[];
  /** Paths whose POST makes the engine generate: such requests are counted, and refused when too many wait. */
  answeringPaths: readonly string[];
  /** Without one everybody is the local caller. */
  keys: CallerDirectory | undefined;
  origins: OriginRules;
  bodyLimits: BodyLimits;
  timeLimits: TimeLimits;
  admission: Admission;
  lifetimes: RequestLifetimes;
  metrics: ServerMetrics;
  /** Whether requests are let in. */
  readiness: () => Readiness;
  /** Whether the engine can answer. While it cannot, it refuses what needs it by itself, and everything else goes on. */
  engineReadiness: () => Readiness;
  onLog?: (entry: RequestLogEntry) => void;
}

/**
 * All routes with what stands before them: tracking, the check of host and origin, what is for everybody, keys, the bounds of
 * the body, admission. A request without a key is refused before its body is read.
 */
export function createApp(parts: AppParts): OpenAPIHono<ServerEnv> {
  const { keys, metrics, readiness, engineReadiness } = parts;
  const app = createRouter();
  app.use(trackRequests(parts.lifetimes, parts.timeLimits, logTo(parts)), securityHeaders, guardOrigin(parts.origins));
  if (parts.origins.allowOrigins.length > 0) app.use(allowPages(parts.origins));
  app.route('/', healthRoutes(readiness, engineReadiness));
  app.route(
    '/',
    documentationRoutes(() => openApiDocument(app)),
  );
  app.route('/', metricsRoutes(metrics, keys));
  app.use(authenticate(keys), refuseWhenNotReady(readiness), limitBody(parts.bodyLimits));
  for (const path of parts.answeringPaths) app.post(path, admit(parts.admission));
  for (const routes of parts.routes) app.route('/', routes);
  app.notFound(({ req }) => toErrorResponse(new RequestError(404, `there is no route ${req.method} ${req.path}`)));
  return app;
}

function logTo({ metrics, onLog }: AppParts): (entry: RequestLogEntry) => void {
  return (entry) => {
    metrics.countRequest(entry);
    onLog?.(entry);
  };
}

/** Lets pages of the allowed origins read answers. */
function allowPages({ allowOrigins }: OriginRules) {
  return cors({
    origin: (origin) => (allowOrigins.includes('*') || allowOrigins.includes(origin) ? origin : null),
    allowHeaders: ['Authorization', 'Content-Type', 'X-Request-Id'],
    exposeHeaders: ['X-Request-Id', 'Retry-After', WARNING_HEADER],
  });
}

function refuseWhenNotReady(readiness: () => Readiness) {
  return async function checkReadiness(_context: unknown, next: () => Promise<void>) {
    const state = readiness();
    if (!state.ready) throw new RequestError(503, `no new requests are taken: ${state.reason}`, { retryAfterSeconds: 5 });
    await next();
  };
}
