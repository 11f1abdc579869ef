import { setMaxListeners } from 'node:events';
import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi';
import type { Dispatch } from '../dispatch.js';
import { json, refused } from '../json-answer.js';
import { atMost } from '../openai/schema-parts.js';
import type { ServerEnv } from '../server-env.js';
import { answerPatiently } from './answer-patiently.js';
import type { BatchLimits } from './batch-limits.js';

export interface SynchronousParts {
  dispatch: Dispatch;
  limits: BatchLimits;
  warn: (message: string) => void;
}

/** Tokasaurus' paths, and where their requests go. */
const PATHS = {
  '/custom/synchronous-batch-completions': '/v1/chat/completions',
  '/custom/cartridge/synchronous-batch-completions': '/custom/cartridge/chat/completions',
};

/** Where a client waits for the answers of a batch. */
export const SYNCHRONOUS_BATCH_PATHS = Object.keys(PATHS);

/**
 * Tokasaurus' batches that are answered in one response. Tokasaurus answers with a Python pickle and fails the whole call for one
 * bad request; here it is JSON, and what is wrong with one request stands in its place.
 */
export function addSynchronousRoutes(router: OpenAPIHono<ServerEnv>, parts: SynchronousParts): void {
  for (const [path, target] of Object.entries(PATHS)) {
    router.openapi(synchronousRoute(path, target, parts.limits), async (context) => {
      const { requests } = context.req.valid('json');
      const caller = context.get('caller');
      const { signal } = context.req.raw;
      const answers = await answerAll(requests, (body) => parts.dispatch(target, body, caller, signal), signal, parts);
      return context.json(answers, 200);
    });
  }
}

/** The answers in the order of the requests. Rejects with `CANCELLED` when the client is gone. */
async function answerAll(
  requests: readonly Record<string, unknown>[],
  ask: (body: Record<string, unknown>) => ReturnType<Dispatch>,
  signal: AbortSignal,
  { limits, warn }: SynchronousParts,
): Promise<unknown[]> {
  const answers: unknown[] = [];
  // Every request under way listens; that is no leak.
  setMaxListeners(0, signal);
  const rest = requests.entries();
  const answerRest = async () => {
    for (const [index, body] of rest) {
      answers[index] = (await answerPatiently(() => ask(body), { policy: limits.busyRetry, signal, warn })).body;
    }
  };
  await Promise.all(Array.from({ length: limits.concurrentSynchronousRequests }, answerRest));
  return answers;
}

function synchronousRoute(path: string, target: string, { maxSynchronousRequests }: BatchLimits) {
  const body = z.strictObject({
    requests: atMost(maxSynchronousRequests, z.array(z.looseObject({})).min(1).max(maxSynchronousRequests)).openapi({
      description: `Bodies of requests to ${target}, without \`stream\``,
    }),
  });
  const answer: z.ZodType = z.array(z.looseObject({})).openapi({
    description: 'In the order of the requests: a ChatCompletion, or an object with `error` for a request that failed',
  });
  return createRoute({
    method: 'post',
    path,
    tags: ['Batches'],
    summary: 'Have a list of chats answered at once',
    request: { body: { required: true, content: { 'application/json': { schema: body } } } },
    responses: { 200: json(answer, 'All answers'), default: refused },
  });
}
