import type { z } from '@hono/zod-openapi';
import { errorSchema } from './openai/response-schemas.js';

/** Documents an answer in JSON. */
export function json<T extends z.ZodType>(schema: T, description: string) {
  return { description, content: { 'application/json': { schema } } };
}

/** Whatever a route answers when it does not do what was asked. */
export const refused = json(errorSchema, 'A refusal or a failure.');
