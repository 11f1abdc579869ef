import { createRoute, type OpenAPIHono, type z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { GeneratedToken } from '../../inference/requests.js';
import { dropConnectionOf } from '../http/connection.js';
import { refused } from '../json-answer.js';
import { createRouter } from '../router.js';
import type { ServerEnv } from '../server-env.js';
import { WARNING_HEADER } from '../warning-header.js';
import { Answer, type AnswerParts } from './answer.js';
import { type AnswerRequest, askedAnswers } from './answer-request.js';
import type { AnswerWriter } from './answer-writer.js';
import { chatRequestSchema } from './chat-request.js';
import { ChatWriter } from './chat-writer.js';
import { completionRequestSchema } from './completion-request.js';
import { CompletionWriter } from './completion-writer.js';
import { FramingVariants } from './framing-variants.js';
import { addModelRoutes } from './model-routes.js';
import { readChatRequest } from './read-chat-request.js';
import { readCompletionRequest } from './read-completion-request.js';
import { chatAnswerSchema, chatChunkSchema, completionAnswerSchema } from './response-schemas.js';
import { streamAnswer } from './stream-answer.js';
import { LogprobWriter } from './token-logprobs.js';

/** OpenAI's path, then those that Tokasaurus has used for chats with cartridges. */
const CHAT_PATHS = [
  '/v1/chat/completions',
  '/v1/cartridge/chat/completions',
  '/custom/cartridge/chat/completions',
  '/batch/cartridge/chat/completions',
];
const COMPLETION_PATHS = ['/v1/completions', '/v1/cartridge/completions', '/custom/cartridge/completions'];

/**
 * OpenAI's routes for models, chats and completions, and Tokasaurus' cartridge routes for the same handlers. Their schemas
 * validate requests and are the OpenAPI document. They expect middleware that sets `caller`.
 *
 * @example
 * app.route('/', openaiRoutes({ model, library, drafts: new Map(), observer, limits: DEFAULT_ANSWER_LIMITS }));
 */
export function openaiRoutes(parts: AnswerParts): OpenAPIHono<ServerEnv> {
  const router = createRouter();
  addModelRoutes(router, parts.model, parts.library);
  const logprobs = new LogprobWriter(parts.model.engine.tokenizer);
  addChatRoutes(router, parts, logprobs);
  addCompletionRoutes(router, parts, logprobs);
  return router;
}

function addChatRoutes(router: OpenAPIHono<ServerEnv>, parts: AnswerParts, logprobs: LogprobWriter): void {
  const { model, limits } = parts;
  const schema = chatRequestSchema(limits);
  const framings = new FramingVariants(model.framing);
  for (const path of CHAT_PATHS) {
    router.openapi(answerRoute(path, 'Chat', 'Continue a chat', schema, chatAnswerSchema, chatChunkSchema), (context) => {
      const request = readChatRequest(context.req.valid('json'), framings, limits);
      return respond(context, request, parts, (answer) => new ChatWriter(answer, logprobs));
    });
  }
}

function addCompletionRoutes(router: OpenAPIHono<ServerEnv>, parts: AnswerParts, logprobs: LogprobWriter): void {
  const { model, limits } = parts;
  const schema = completionRequestSchema(limits);
  for (const path of COMPLETION_PATHS) {
    const route = answerRoute(path, 'Completions', 'Continue texts', schema, completionAnswerSchema, completionAnswerSchema);
    router.openapi(route, (context) => {
      const request = readCompletionRequest(context.req.valid('json'), model.framing, limits);
      return respond(context, request, parts, (answer) => new CompletionWriter(answer, logprobs));
    });
  }
}

async function respond(
  context: Context<ServerEnv>,
  request: AnswerRequest,
  parts: AnswerParts,
  createWriter: (answer: Answer) => AnswerWriter,
): Promise<Response> {
  const { signal } = context.req.raw;
  await context.get('place')?.hold(askedAnswers(request), signal);
  const answer = await Answer.start(request, parts, context.get('caller'), signal);
  const writer = createWriter(answer);
  const response = request.stream
    ? await streamAnswer(answer, writer, {
        slowClientSeconds: parts.limits.slowClientSeconds,
        dropConnection: dropConnectionOf(context),
      })
    : Response.json(writer.whole(await collect(answer)));
  if (answer.warning !== undefined) response.headers.set(WARNING_HEADER, answer.warning);
  return response;
}

async function collect(answer: Answer): Promise<GeneratedToken[][]> {
  const choices: GeneratedToken[][] = [];
  for await (const { choice, generated } of answer.tokens) {
    choices[choice] ??= [];
    choices[choice].push(generated);
  }
  return choices;
}

function answerRoute<T extends z.ZodType>(
  path: string,
  tag: string,
  summary: string,
  body: T,
  answer: z.ZodType,
  chunk: z.ZodType,
) {
  return createRoute({
    method: 'post',
    path,
    tags: [tag],
    summary,
    request: { body: { required: true, content: { 'application/json': { schema: body } } } },
    responses: {
      200: {
        description: 'The answer, or its parts as server-sent events that end with `data: [DONE]`.',
        headers: {
          [WARNING_HEADER]: { description: 'What the sender should know of the answer.', schema: { type: 'string' } },
        },
        content: { 'application/json': { schema: answer }, 'text/event-stream': { schema: chunk } },
      },
      default: refused,
    },
  });
}
