import { randomInt } from 'node:crypto';
import type { Sampling } from '../../chat/chat-client.js';
import { sha256 } from '../../core/hashing.js';
import type { AskedAnswers } from '../limits/place.js';
import type { CartridgeNames } from './cartridge-choice.js';
import type { ChatRequestBody } from './chat-request.js';
import type { CompletionRequestBody } from './completion-request.js';
import { refusal } from './refusals.js';

/** What a request of either kind asks for; its fields are checked one by one and against each other. */
export interface AnswerRequest {
  names: CartridgeNames;
  /** Turns the prompts into tokens, which takes a while for long ones. Throws what the framing throws. */
  encode(behindCartridge: boolean): Int32Array[];
  promptCount: number;
  /** The field of the request that holds the prompts. */
  promptParam: 'messages' | 'prompt';
  hasSystemMessage: boolean;
  /** Answers to each prompt. */
  choices: number;
  seed: number;
  /** Without a seed: every choice has one of its own. */
  sampling: Sampling;
  /** Undefined for as many as there is room for. */
  maxTokens: number | undefined;
  stop: readonly string[];
  /** Log-probs of so many of the most probable tokens, beside each token's own; undefined for none at all. */
  topLogprobs: number | undefined;
  logprobsInFingerprint: boolean;
  ignoreEndOfGeneration: boolean;
  grammar: string | undefined;
  stream: boolean;
  includeUsage: boolean;
}

type SharedBody = Omit<CompletionRequestBody, 'prompt' | 'logprobs'> & Pick<Partial<ChatRequestBody>, 'max_completion_tokens'>;

/** The fields that both kinds of request have. Throws `RequestError` where they contradict each other. */
export function readSharedFields(body: SharedBody) {
  if (body.stream_options && !body.stream) throw refusal('stream_options', 'stream_options is only for streams');
  if (body.stream && body.logprobs_in_fingerprint) {
    throw refusal('logprobs_in_fingerprint', 'a stream has no system_fingerprint to pack log-probs into');
  }
  return {
    choices: body.n,
    seed: body.seed ?? randomInt(2 ** 32),
    sampling: readSampling(body),
    maxTokens: readMaxTokens(body),
    stop: [body.stop ?? []].flat(),
    logprobsInFingerprint: body.logprobs_in_fingerprint,
    ignoreEndOfGeneration: body.ignore_eos,
    stream: body.stream,
    includeUsage: body.stream_options?.include_usage ?? false,
  };
}

/** What a request asks the engine for. */
export function askedAnswers({ promptCount, promptParam, choices }: AnswerRequest): AskedAnswers {
  return { count: promptCount * choices, param: choices > 1 ? 'n' : promptParam };
}

/** The seed of one choice: equal requests draw alike, choices of one request do not. */
export function choiceSeed(seed: number, choice: number): number {
  return Number.parseInt(sha256(`${seed}/${choice}`).slice(0, 8), 16);
}

function readSampling(body: SharedBody): Sampling {
  const bias = Object.entries(body.logit_bias ?? {}).map(([token, value]): [number, number] => [Number(token), value]);
  return {
    temperature: body.temperature,
    // OpenAI allows 0, which is the most probable token alone; so is every mass that is smaller than that token's.
    topP: Math.max(body.top_p, Number.MIN_VALUE),
    topK: body.top_k,
    minP: body.min_p,
    ...(bias.length > 0 && { logitBias: new Map(bias) }),
    ...(body.frequency_penalty !== 0 && { frequencyPenalty: body.frequency_penalty }),
    ...(body.presence_penalty !== 0 && { presencePenalty: body.presence_penalty }),
  };
}

function readMaxTokens({ max_tokens, max_completion_tokens }: SharedBody): number | undefined {
  const given = [max_completion_tokens, max_tokens].filter((count) => typeof count === 'number');
  if (given.length === 2 && given[0] !== given[1]) {
    throw refusal('max_tokens', `max_tokens is ${max_tokens}, max_completion_tokens is ${max_completion_tokens}: send one`);
  }
  return given[0];
}
