import type { z } from 'zod';
import { CartridgesError } from '../core/errors.js';
import { tryParse } from '../core/json.js';
import { toSparseLogprobs } from '../core/sparse-logprobs.js';
import type { ChatClient, ChatPiece, ChatRequest, ChatResponse } from './chat-client.js';
import type { OpenAiServer } from './openai-server.js';
import { chunkSchema, completionSchema, modelListSchema, toRequestBody } from './openai-wire.js';
import { unpackLogprobs } from './packed-logprobs.js';
import { readRefusal } from './server-errors.js';

export interface OpenAiChatClientOptions {
  server: OpenAiServer;
  /** As the server lists it; `BASE:NAME` is a model behind a cartridge on this project's server. */
  model: string;
  /**
   * Most top log-probs with token ids that the server packs into its `system_fingerprint`, as this project's and Tokasaurus do.
   * By default 0: OpenAI's own form has no token ids, so nothing can be learnt from it.
   */
  topLogprobs?: number;
}

/**
 * Chats with a model of any server that has OpenAI's API: this project's, llama-server, vLLM, Tokasaurus and others.
 *
 * @example
 * const server = new OpenAiServer({ url: 'http://127.0.0.1:8321' });
 * const client = new OpenAiChatClient({ server, model: 'pocket:notes' });
 */
export class OpenAiChatClient implements ChatClient {
  readonly capabilities: ChatClient['capabilities'];
  readonly #server: OpenAiServer;
  readonly #model: string;

  constructor({ server, model, topLogprobs = 0 }: OpenAiChatClientOptions) {
    this.#server = server;
    this.#model = model;
    this.capabilities = { topLogprobs, tokenIds: topLogprobs > 0, cartridges: true };
  }

  /**
   * The assistant's next message. Rejects with what {@link OpenAiServer.json} rejects with, and with `INVALID_OPTION` for more
   * log-probs than the server can pack.
   */
  async chat(request: ChatRequest, signal?: AbortSignal): Promise<ChatResponse> {
    const k = this.#checkLogprobs(request);
    const { tokenIds: packed } = this.capabilities;
    const body = {
      ...toRequestBody(request, this.#model),
      ...(packed && { logprobs_in_fingerprint: true }),
      ...(k > 0 && { logprobs: true, top_logprobs: k }),
    };
    const { choices, usage, system_fingerprint } = this.#read(
      completionSchema,
      await this.#server.json('/chat/completions', body, signal),
    );
    const [choice] = choices as [(typeof choices)[number]];
    const answer = { text: choice.message.content ?? '', finishReason: this.#finishReason(choice.finish_reason), usage };
    if (!packed) return answer;
    const { tokenIds, rows } = unpackLogprobs(system_fingerprint ?? '', k);
    return { ...answer, tokenIds, ...(k > 0 && { topLogprobs: toSparseLogprobs(rows, k, request.minProbabilityMass) }) };
  }

  /** Throws as {@link chat} rejects, also in the middle of the answer. */
  async *stream(request: ChatRequest, signal?: AbortSignal): AsyncGenerator<ChatPiece> {
    const body = { ...toRequestBody(request, this.#model), stream: true, stream_options: { include_usage: true } };
    let finished = false;
    for await (const data of this.#server.events('/chat/completions', body, signal)) {
      if (data === '[DONE]') break;
      const piece = this.#readPiece(data);
      finished ||= piece.finishReason !== undefined;
      yield piece;
    }
    if (!finished) throw new CartridgesError('SERVER_FAILED', `${this.#server.url} ended the answer in the middle`);
  }

  #checkLogprobs({ topLogprobs = 0 }: ChatRequest): number {
    if (topLogprobs <= this.capabilities.topLogprobs) return topLogprobs;
    throw new CartridgesError(
      'INVALID_OPTION',
      `${topLogprobs} log-probs with token ids are asked for, and ${this.#server.url} gives ${this.capabilities.topLogprobs}`,
    );
  }

  #readPiece(data: string): ChatPiece {
    const value = tryParse(data);
    const refusal = readRefusal(value);
    if (refusal) throw this.#server.refuse(refusal);
    const { choices, usage } = this.#read(chunkSchema, value);
    const reason = choices[0]?.finish_reason;
    return {
      text: choices[0]?.delta?.content ?? '',
      ...(reason && { finishReason: this.#finishReason(reason) }),
      ...(usage && { usage }),
    };
  }

  #finishReason(reason: string | null | undefined): 'stop' | 'length' {
    if (reason === 'stop' || reason === 'length') return reason;
    throw new CartridgesError('SERVER_FAILED', `${this.#server.url} ended the answer with the reason ${JSON.stringify(reason)}`);
  }

  #read<T>(schema: z.ZodType<T>, value: unknown): T {
    return readAs(schema, value, this.#server);
  }
}

/** The ids of the models that a server lists. Rejects as {@link OpenAiServer.json} does. */
export async function listModels(server: OpenAiServer, signal?: AbortSignal): Promise<string[]> {
  const { data } = readAs(modelListSchema, await server.json('/models', undefined, signal), server);
  return data.map(({ id }) => id);
}

function readAs<T>(schema: z.ZodType<T>, value: unknown, server: OpenAiServer): T {
  const { data, error } = schema.safeParse(value);
  if (error === undefined) return data;
  const [issue] = error.issues;
  const where = issue?.path.length ? `${issue.path.join('.')}: ` : '';
  throw new CartridgesError('SERVER_FAILED', `${server.url} sent an answer of another form: ${where}${issue?.message}`, {
    hint: "check the address: it must be that of a server with OpenAI's API",
  });
}
