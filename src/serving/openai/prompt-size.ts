import type { AnswerLimits } from './answer-limits.js';
import { refusal } from './refusals.js';

/** Throws `RequestError` when the texts are longer than what may be tokenised in one go, or the token ids too many to copy. */
export function checkPromptSize(prompts: readonly (string | readonly number[])[], param: string, limits: AnswerLimits): void {
  let bytes = 0;
  let tokens = 0;
  for (const prompt of prompts) {
    if (typeof prompt === 'string') bytes += Buffer.byteLength(prompt);
    else tokens += prompt.length;
  }
  if (bytes > limits.maxPromptBytes) throw refusal(param, `${bytes} bytes of text are more than ${limits.maxPromptBytes}`);
  if (tokens > limits.maxPromptTokens) throw refusal(param, `${tokens} token ids are more than ${limits.maxPromptTokens}`);
}
