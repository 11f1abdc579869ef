import { z } from '@hono/zod-openapi';
import type { AnswerLimits } from './answer-limits.js';
import { sharedFields } from './request-fields.js';
import { atMost, unsupported } from './schema-parts.js';

/** Checked by hand, since a schema would collect what is wrong with every single id. */
function tokenListSchema() {
  return z
    .custom<number[]>((given) => Array.isArray(given) && given.length > 0 && given.every(isTokenId), 'not a list of token ids')
    .openapi({ type: 'array', items: { type: 'integer', minimum: 0 }, minItems: 1 });
}

function promptSchema({ maxPrompts }: AnswerLimits) {
  return z
    .union(
      [
        z.string(),
        tokenListSchema(),
        atMost(maxPrompts, z.array(z.string()).min(1).max(maxPrompts)),
        atMost(maxPrompts, z.array(tokenListSchema()).min(1).max(maxPrompts)),
      ],
      { error: `must be a text, a list of token ids, or a list of 1 to ${maxPrompts} of either` },
    )
    .describe('Marks of special tokens inside a text stay text; token ids are read as they are.');
}

/** The body of /v1/completions: OpenAI's fields, Tokasaurus' and our own. Other fields are refused by name. */
export function completionRequestSchema(limits: AnswerLimits) {
  return z
    .strictObject({
      ...sharedFields(limits),
      prompt: promptSchema(limits),
      logprobs: z
        .int()
        .min(0)
        .max(limits.maxTopLogprobs)
        .nullish()
        .describe('Natural log-probs of the new tokens and of so many of the most probable, before temperature and filters.'),
      echo: unsupported(false),
      best_of: z.int().nullish().describe('Taken when it is `n`: no answers are made that are not given.'),
      suffix: unsupported(''),
    })
    .openapi('CompletionRequest');
}

export type CompletionRequestBody = z.output<ReturnType<typeof completionRequestSchema>>;

function isTokenId(value: unknown): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 2 ** 31;
}
