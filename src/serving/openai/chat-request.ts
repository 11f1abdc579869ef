import { z } from '@hono/zod-openapi';
import type { AnswerLimits } from './answer-limits.js';
import { maxTokens, sharedFields } from './request-fields.js';
import { atMost, optional, unsupported, unsupportedList } from './schema-parts.js';

/** Parts of one message; a content that is longer is one text. */
const MAX_CONTENT_PARTS = 256;
const MAX_TEMPLATE_VARIABLES = 16;
const MAX_VARIABLE_LENGTH = 64;

const textPartSchema = z.strictObject({
  type: z.literal('text'),
  text: z.string(),
  prompt_cache_breakpoint: unsupported(),
});

const messageSchema = z
  .strictObject({
    role: z.enum(['system', 'developer', 'user', 'assistant']).describe('`developer` is read as `system`.'),
    content: z.union([z.string(), atMost(MAX_CONTENT_PARTS, z.array(textPartSchema).min(1))], {
      error: `must be a text or a list of 1 to ${MAX_CONTENT_PARTS} parts of the type text`,
    }),
    name: unsupported(),
    refusal: unsupported(),
    annotations: unsupportedList(),
    audio: unsupported(),
    tool_calls: unsupported(),
    tool_call_id: unsupported(),
    function_call: unsupported(),
  })
  .openapi('ChatMessage');

const responseFormatSchema = z
  .discriminatedUnion('type', [
    z.strictObject({ type: z.literal('text') }),
    z.strictObject({ type: z.literal('json_object') }),
    z.strictObject({
      type: z.literal('json_schema'),
      json_schema: z.strictObject({
        name: z.string().min(1).max(64),
        description: z.string().nullish(),
        schema: z.record(z.string(), z.unknown()),
        strict: z.boolean().nullish().describe('The schema always holds strictly.'),
      }),
    }),
  ])
  .openapi('ResponseFormat');

const variableError = `must be a boolean, a number, null, or a text of at most ${MAX_VARIABLE_LENGTH} ASCII letters, digits, spaces and . , : _ -`;

/**
 * Values of template variables. They become part of the template's own text, whose special tokens are parsed: so no text that
 * could spell one gets through.
 */
const templateVariablesSchema = atMost(
  MAX_TEMPLATE_VARIABLES,
  z
    .record(
      z.string().regex(/^[A-Za-z_]\w{0,63}$/, 'a key is not the name of a template variable'),
      z.union(
        [
          z.boolean(),
          z.number(),
          z.null(),
          z
            .string()
            .max(MAX_VARIABLE_LENGTH)
            .regex(/^[\w .,:-]*$/, variableError),
        ],
        {
          error: variableError,
        },
      ),
    )
    .nullish(),
);

/** The body of /v1/chat/completions: OpenAI's fields, Tokasaurus' and our own. Other fields are refused by name. */
export function chatRequestSchema(limits: AnswerLimits) {
  return z
    .strictObject({
      ...sharedFields(limits),
      messages: atMost(limits.maxMessages, z.array(messageSchema).min(1).max(limits.maxMessages)).describe(
        'The chat. An assistant message at its end is continued. `<cartridge>{"id": "NAME"}</cartridge>` in a system message names a cartridge and is taken out of the text.',
      ),
      max_completion_tokens: maxTokens(limits),
      logprobs: optional(z.boolean(), false).describe('Natural log-probs of the new tokens, before temperature and filters.'),
      top_logprobs: z.int().min(0).max(limits.maxTopLogprobs).nullish().describe('With `logprobs` only.'),
      response_format: responseFormatSchema.nullish(),
      apply_chat_template_overrides: templateVariablesSchema.describe(
        'Variables for the chat template of the model, such as {"enable_thinking": true}.',
      ),
      tools: unsupported(),
      tool_choice: unsupported('none'),
      parallel_tool_calls: unsupported(false),
      functions: unsupported(),
      function_call: unsupported('none'),
      audio: unsupported(),
      modalities: unsupported(),
      moderation: unsupported(),
      prediction: unsupported(),
      prompt_cache_key: unsupported(),
      prompt_cache_options: unsupported(),
      prompt_cache_retention: unsupported(),
      safety_identifier: unsupported(),
      reasoning_effort: unsupported(),
      verbosity: unsupported(),
      web_search_options: unsupported(),
      service_tier: unsupported('auto', 'default'),
      store: unsupported(false),
    })
    .openapi('ChatCompletionRequest');
}

export type ChatRequestBody = z.output<ReturnType<typeof chatRequestSchema>>;
export type ChatRequestMessage = ChatRequestBody['messages'][number];
