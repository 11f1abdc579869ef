import { randomUUID } from 'node:crypto';
import type { GeneratedToken } from '../../inference/requests.js';
import type { Answer, ChoiceToken } from './answer.js';
import type { UsageBody } from './response-schemas.js';

/** Writes one answer in the words of one API; it may remember what earlier parts said. */
export interface AnswerWriter {
  /** The whole answer, given the tokens of every choice. */
  whole(choices: readonly (readonly GeneratedToken[])[]): object;
  /** What a stream begins with. */
  opening(): object[];
  /** The part of a stream for one token; undefined when the token has nothing to show yet. */
  part(token: ChoiceToken): object | undefined;
  /** The part at the end of a stream that has no choices. */
  closing(usage: UsageBody): object;
}

/** What every answer and every part of a stream begins with. */
export interface AnswerHead {
  id: string;
  created: number;
  model: string;
}

export function answerHead(prefix: 'chatcmpl' | 'cmpl', { request }: Answer): AnswerHead {
  return {
    id: `${prefix}-${randomUUID().replaceAll('-', '')}`,
    created: Math.floor(Date.now() / 1000),
    model: request.names.model,
  };
}

export function textOf(tokens: readonly GeneratedToken[]): string {
  return tokens.map(({ text }) => text).join('');
}

/** Complete when all tokens of the answer have been read. */
export function usageBody({ usage, cartridgeTokens }: Answer): UsageBody {
  const { promptTokens, completionTokens, cachedTokens } = usage;
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    cartridge_tokens: cartridgeTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}
