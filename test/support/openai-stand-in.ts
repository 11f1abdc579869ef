import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface HeardRequest {
  method: string;
  path: string;
  authorization: string | undefined;
  body: {
    model?: string;
    messages?: { role: string; content: string }[];
    stream?: boolean;
    [field: string]: unknown;
  };
}

type Handler = (request: HeardRequest, response: ServerResponse) => void;

/** A server with OpenAI's API for tests: it says who was asked what, or whatever a test lets it say. */
export class OpenAiStandIn {
  readonly requests: HeardRequest[] = [];
  models = ['base', 'base:notes', 'base:letters'];
  /** Answers chats in place of the usual answer. */
  chat: Handler = (request, response) => this.answer(request, response);
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => void this.#hear(request, response));
  }

  static async start(): Promise<OpenAiStandIn> {
    const standIn = new OpenAiStandIn();
    standIn.#server.listen(0, '127.0.0.1');
    await once(standIn.#server, 'listening');
    return standIn;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Says which model read how many messages and what the last one was. */
  answer({ body }: HeardRequest, response: ServerResponse): void {
    const { model, messages = [], stream } = body;
    const roles = messages.map(({ role }) => role[0]).join('');
    const text = `${model} read ${roles}: ${messages.at(-1)?.content}`;
    if (stream) sendEvents(response, chunksOf(text.match(/.{1,7}/gsu) ?? []));
    else sendJson(response, 200, completionOf(text));
  }

  async #hear(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece);
    const text = Buffer.concat(pieces).toString('utf8');
    const { method = '', url: path = '', headers } = request;
    const heard = { method, path, authorization: headers.authorization, body: text === '' ? {} : JSON.parse(text) };
    this.requests.push(heard);
    if (path === '/v1/models')
      sendJson(response, 200, { object: 'list', data: this.models.map((id) => ({ id, object: 'model' })) });
    else if (path === '/v1/chat/completions') this.chat(heard, response);
    else sendJson(response, 404, { error: { message: `no route ${path}`, type: 'not_found_error', code: null } });
  }
}

const USAGE = {
  prompt_tokens: 11,
  completion_tokens: 3,
  total_tokens: 14,
  cartridge_tokens: 64,
  prompt_tokens_details: { cached_tokens: 5 },
};

export function completionOf(content: string, rest: Record<string, unknown> = {}): unknown {
  const choices = [{ index: 0, message: { role: 'assistant', content }, finish_reason: 'stop' }];
  return { id: 'chat-1', object: 'chat.completion', choices, usage: USAGE, ...rest };
}

/** The data of a stream's events for an answer in pieces. */
export function chunksOf(pieces: readonly string[]): string[] {
  const chunk = (delta: object, reason: string | null) =>
    JSON.stringify({ object: 'chat.completion.chunk', choices: [{ index: 0, delta, finish_reason: reason }], usage: null });
  return [
    chunk({ role: 'assistant', content: '' }, null),
    ...pieces.map((content) => chunk({ content }, null)),
    chunk({}, 'stop'),
    JSON.stringify({ object: 'chat.completion.chunk', choices: [], usage: USAGE }),
    '[DONE]',
  ];
}

export function sendEvents(response: ServerResponse, events: readonly string[]): void {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.end(eventText(events));
}

export function eventText(events: readonly string[]): string {
  return events.map((data) => `data: ${data}\n\n`).join('');
}

export function sendJson(response: ServerResponse, status: number, value: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
}
