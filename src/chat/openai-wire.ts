import { z } from 'zod';
import type { ChatRequest, Usage } from './chat-client.js';

/** What a server sends, as far as it is read here; other fields are left alone. */

const count = z.int().min(0);
const reason = z.string().max(100).nullish();

const usage = z
  .object({
    prompt_tokens: count,
    completion_tokens: count,
    prompt_tokens_details: z.object({ cached_tokens: count.nullish() }).nullish(),
    /** Of this project's server. */
    cartridge_tokens: count.nullish(),
  })
  .transform(
    (sent): Usage => ({
      promptTokens: sent.prompt_tokens,
      completionTokens: sent.completion_tokens,
      cachedPromptTokens: sent.prompt_tokens_details?.cached_tokens ?? 0,
      ...(typeof sent.cartridge_tokens === 'number' && { cartridgeTokens: sent.cartridge_tokens }),
    }),
  );

export const completionSchema = z.object({
  choices: z.array(z.object({ message: z.object({ content: z.string().nullish() }), finish_reason: reason })).min(1),
  usage,
  system_fingerprint: z.string().nullish(),
});

export const chunkSchema = z.object({
  choices: z.array(z.object({ delta: z.object({ content: z.string().nullish() }).nullish(), finish_reason: reason })).default([]),
  usage: usage.nullish(),
});

export const modelListSchema = z.object({ data: z.array(z.object({ id: z.string().min(1).max(1000) })).max(100_000) });

/** The body of a chat request. Fields that only some servers know are left out unless they are asked for. */
export function toRequestBody(request: ChatRequest, model: string): Record<string, unknown> {
  const { messages, maxTokens, sampling, stop } = request;
  return {
    model,
    messages: messages.map(({ role, content }) => ({ role, content })),
    max_tokens: maxTokens,
    temperature: sampling.temperature,
    ...(sampling.topK && { top_k: sampling.topK }),
    ...(sampling.topP !== undefined && sampling.topP !== 1 && { top_p: sampling.topP }),
    ...(sampling.minP && { min_p: sampling.minP }),
    ...(sampling.seed !== undefined && { seed: sampling.seed }),
    ...(sampling.logitBias?.size && { logit_bias: Object.fromEntries(sampling.logitBias) }),
    ...(sampling.frequencyPenalty && { frequency_penalty: sampling.frequencyPenalty }),
    ...(sampling.presencePenalty && { presence_penalty: sampling.presencePenalty }),
    ...(stop?.length && { stop }),
  };
}
