import { z } from '@hono/zod-openapi';

const usageSchema = z
  .object({
    prompt_tokens: z.int().describe('Of the prompts; rows of cartridges are not counted.'),
    completion_tokens: z.int().describe('Of all choices, with the tokens that end them.'),
    total_tokens: z.int(),
    cartridge_tokens: z.int().describe('Rows of cartridges in front of the prompts.'),
    prompt_tokens_details: z.object({ cached_tokens: z.int().describe('Prompt tokens that were not computed again.') }),
  })
  .openapi('Usage');

const finishReasonSchema = z.enum(['stop', 'length']);

const tokenLogprobSchema = z.object({
  token: z.string(),
  bytes: z.array(z.int()).nullable().describe('Null for a special token.'),
  logprob: z.number(),
});

const chatLogprobsSchema = z
  .object({
    content: z.array(tokenLogprobSchema.extend({ top_logprobs: z.array(tokenLogprobSchema) })),
    refusal: z.null(),
  })
  .nullable()
  .openapi('ChatLogprobs');

const completionLogprobsSchema = z
  .object({
    tokens: z.array(z.string()),
    token_logprobs: z.array(z.number()),
    top_logprobs: z.array(z.record(z.string(), z.number())).nullable(),
    text_offset: z.array(z.int()).describe('Where each token begins in the text of the choice.'),
  })
  .nullable()
  .openapi('CompletionLogprobs');

/** Fields of every answer and of every part of a stream. */
const headSchema = z.object({ id: z.string(), created: z.int().describe('Unix seconds.'), model: z.string() });

export const chatAnswerSchema = headSchema
  .extend({
    object: z.literal('chat.completion'),
    choices: z.array(
      z.object({
        index: z.int(),
        message: z.object({ role: z.literal('assistant'), content: z.string(), refusal: z.null() }),
        logprobs: chatLogprobsSchema,
        finish_reason: finishReasonSchema,
      }),
    ),
    usage: usageSchema,
    system_fingerprint: z.string().describe('JSON of token ids and packed log-probs, as Tokasaurus gives it.'),
  })
  .openapi('ChatCompletion');

export const chatChunkSchema = headSchema
  .extend({
    object: z.literal('chat.completion.chunk'),
    choices: z.array(
      z.object({
        index: z.int(),
        delta: z.object({ role: z.literal('assistant').optional(), content: z.string().optional() }),
        logprobs: chatLogprobsSchema,
        finish_reason: finishReasonSchema.nullable(),
      }),
    ),
    usage: z.union([usageSchema, z.null()]).optional(),
  })
  .openapi('ChatCompletionChunk');

const completionChoiceSchema = z.object({
  index: z.int().describe('Choice c of prompt p has the index p · n + c.'),
  text: z.string(),
  logprobs: completionLogprobsSchema,
  finish_reason: finishReasonSchema.nullable().describe('Null in parts of a stream but the last of a choice.'),
});

export const completionAnswerSchema = headSchema
  .extend({
    object: z.literal('text_completion'),
    choices: z.array(completionChoiceSchema),
    usage: z.union([usageSchema, z.null()]).optional(),
    system_fingerprint: z.string().optional().describe('JSON of token ids and packed log-probs; a stream has none.'),
  })
  .openapi('Completion');

export const modelSchema = z
  .object({ id: z.string(), object: z.literal('model'), created: z.int(), owned_by: z.string() })
  .openapi('Model');

export const modelListSchema = z.object({ object: z.literal('list'), data: z.array(modelSchema) }).openapi('ModelList');

export const errorSchema = z
  .object({
    error: z.object({ message: z.string(), type: z.string(), param: z.string().nullable(), code: z.string() }),
  })
  .openapi('Error');

export type UsageBody = z.output<typeof usageSchema>;
export type ChatAnswerBody = z.output<typeof chatAnswerSchema>;
export type ChatChunkBody = z.output<typeof chatChunkSchema>;
export type CompletionAnswerBody = z.output<typeof completionAnswerSchema>;
export type ChatLogprobsBody = z.output<typeof chatLogprobsSchema>;
export type CompletionLogprobsBody = z.output<typeof completionLogprobsSchema>;
