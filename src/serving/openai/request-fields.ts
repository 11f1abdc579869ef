import { z } from '@hono/zod-openapi';
import { CARTRIDGE_SOURCES } from '../cartridges/cartridge-library.js';
import type { AnswerLimits } from './answer-limits.js';
import { atMost, optional, unsupported } from './schema-parts.js';

const MAX_ID_LENGTH = 512;
const MAX_METADATA_ENTRIES = 16;
/** What a seed may be in JavaScript without losing digits. */
const MAX_SEED = Number.MAX_SAFE_INTEGER;

/** A cartridge as a request names it, in the field `cartridges` and in blocks of system messages. */
export const cartridgeSchema = z
  .strictObject({
    id: z.string().min(1).max(MAX_ID_LENGTH).describe('A name or alias of this server, or what the source calls it.'),
    source: optional(z.enum(CARTRIDGE_SOURCES), 'local').describe(
      'Where to look for what the server does not have. Tokasaurus looks in wandb when a request does not say; here it is local, so that nothing is downloaded unasked.',
    ),
    force_redownload: optional(z.boolean(), false).describe('Fetch it again even when the server has it.'),
  })
  .openapi('CartridgeReference');

export type CartridgeField = z.output<typeof cartridgeSchema>;

/** The fields that both kinds of request have. */
export function sharedFields(limits: AnswerLimits) {
  return { ...answerFields(limits), ...samplingFields(limits), ...tokasaurusFields(limits) };
}

function answerFields(limits: AnswerLimits) {
  const stop = z.string().min(1).max(limits.maxStopLength);
  return {
    model: z
      .string()
      .min(1)
      .max(MAX_ID_LENGTH)
      .describe('An id of /v1/models: the model alone, or MODEL:CARTRIDGE for the model behind a cartridge.'),
    n: optional(z.int().min(1).max(limits.maxChoices), 1).describe('Answers to each prompt, each with a seed of its own.'),
    stream: optional(z.boolean(), false).describe('Server-sent events, one for each token as it comes.'),
    stream_options: z
      .strictObject({ include_usage: optional(z.boolean(), false), include_obfuscation: unsupported(false) })
      .nullish()
      .describe('With `stream` only.'),
    stop: z
      .union([stop, atMost(limits.maxStopStrings, z.array(stop).max(limits.maxStopStrings))], {
        error: `must be a text of 1 to ${limits.maxStopLength} characters, or a list of at most ${limits.maxStopStrings} of them`,
      })
      .nullish()
      .describe('Texts that end an answer and are left out of it.'),
    max_tokens: maxTokens(limits),
    user: z.string().nullish().describe('Accepted and not used.'),
    metadata: atMost(MAX_METADATA_ENTRIES, z.record(z.string(), z.string()).nullish()).describe('Accepted and not used.'),
  };
}

function samplingFields(limits: AnswerLimits) {
  return {
    seed: z
      .int()
      .min(-MAX_SEED)
      .max(MAX_SEED)
      .nullish()
      .describe(
        'The same request with the same seed draws the same random numbers; rounding in another batch may still change the text. Without one it is drawn at random.',
      ),
    temperature: optional(z.number().min(0).max(2), 1).describe('0 always takes the most probable token.'),
    top_p: optional(z.number().min(0).max(1), 1).describe('Keep the most probable tokens up to this mass.'),
    top_k: optional(z.int().min(0), 0).describe('Keep so many of the most probable tokens; 0 keeps all.'),
    min_p: optional(z.number().min(0).max(1), 0).describe('Drop tokens below this share of the most probable one.'),
    frequency_penalty: optional(z.number().min(-2).max(2), 0),
    presence_penalty: optional(z.number().min(-2).max(2), 0),
    logit_bias: atMost(
      limits.maxBiasedTokens,
      z.record(z.string().regex(/^\d{1,9}$/, 'a key is not a token id'), z.number().min(-100).max(100)).nullish(),
    ).describe('Token id to a number that is added to its logit, from -100 to 100.'),
  };
}

/** What Tokasaurus adds to OpenAI's fields. */
function tokasaurusFields(limits: AnswerLimits) {
  return {
    cartridges: atMost(limits.maxCartridges, z.array(cartridgeSchema).max(limits.maxCartridges).nullish()).describe(
      'Cartridges in front of the prompt, in this order.',
    ),
    cartridge_order: optional(z.enum(['given', 'sorted']), 'given').describe(
      'The order of the cartridges: as the request gives them, or sorted by id as Tokasaurus does.',
    ),
    ignore_eos: optional(z.boolean(), false).describe('Go on behind the end of the answer, up to the number of tokens.'),
    logprobs_in_fingerprint: optional(z.boolean(), false).describe(
      'Pack log-probs into `system_fingerprint`, as base64 of little-endian arrays, and leave them out of the choices.',
    ),
  };
}

/** Only the context bounds what may be asked for. */
export function maxTokens(limits: AnswerLimits) {
  return z
    .int()
    .min(1)
    .nullish()
    .describe(`Most new tokens. Without it as many as the context has room for, at most ${limits.defaultAnswerTokens}.`);
}
