import type { ChatFraming } from '../../models/chat-framing.js';
import type { AnswerLimits } from './answer-limits.js';
import { type AnswerRequest, readSharedFields } from './answer-request.js';
import type { CompletionRequestBody } from './completion-request.js';
import { checkPromptSize } from './prompt-size.js';
import { refusal } from './refusals.js';

/** Reads the body of a completion request. Throws `RequestError` where fields contradict each other or cannot be honoured. */
export function readCompletionRequest(body: CompletionRequestBody, framing: ChatFraming, limits: AnswerLimits): AnswerRequest {
  const prompts = listPrompts(body.prompt);
  checkPromptSize(prompts, 'prompt', limits);
  if (prompts.length * body.n > limits.maxAnswers) {
    throw refusal('n', `${prompts.length} prompts with ${body.n} answers each are more than ${limits.maxAnswers} answers`);
  }
  if (typeof body.best_of === 'number' && body.best_of !== body.n) {
    throw refusal('best_of', 'best_of: not supported: leave it out, or send null or as many as n');
  }
  return {
    ...readSharedFields(body),
    names: { model: body.model, field: body.cartridges ?? [], blocks: [], blockParam: undefined, order: body.cartridge_order },
    // Behind a cartridge no text begins: its rows begin with the begin-of-sequence token.
    encode: (behindCartridge) =>
      prompts.map((prompt) =>
        typeof prompt === 'string' ? framing.encodeText(prompt, { bos: !behindCartridge }) : Int32Array.from(prompt),
      ),
    promptCount: prompts.length,
    promptParam: 'prompt',
    hasSystemMessage: false,
    topLogprobs: body.logprobs ?? (body.logprobs_in_fingerprint ? 0 : undefined),
    grammar: undefined,
  };
}

function listPrompts(prompt: CompletionRequestBody['prompt']): (string | number[])[] {
  if (typeof prompt === 'string') return [prompt];
  return isTokenList(prompt) ? [prompt] : prompt;
}

function isTokenList(prompt: string[] | number[] | number[][]): prompt is number[] {
  return typeof prompt[0] === 'number';
}
