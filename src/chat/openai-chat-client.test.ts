import type { ServerResponse } from 'node:http';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { chunksOf, completionOf, eventText, OpenAiStandIn, sendEvents, sendJson } from '../../test/support/openai-stand-in.js';
import type { ChatPiece, ChatRequest } from './chat-client.js';
import { listModels, OpenAiChatClient } from './openai-chat-client.js';
import { OpenAiServer, type OpenAiServerOptions } from './openai-server.js';

const KEY = 'sk-secret-key';
const retries: string[] = [];
let standIn: OpenAiStandIn;
const usual = () => standIn.answer;

beforeAll(async () => {
  standIn = await OpenAiStandIn.start();
});
afterEach(() => {
  standIn.chat = usual().bind(standIn);
  standIn.requests.length = 0;
  retries.length = 0;
});
afterAll(() => standIn.stop());

const serverWith = (options: Partial<OpenAiServerOptions> = {}) =>
  new OpenAiServer({
    url: standIn.url,
    retry: { attempts: 3, delayMs: 1 },
    onRetry: (message) => retries.push(message),
    ...options,
  });
const clientWith = (options: Partial<OpenAiServerOptions> = {}, topLogprobs = 0) =>
  new OpenAiChatClient({ server: serverWith(options), model: 'base:notes', topLogprobs });

const REQUEST: ChatRequest = {
  messages: [{ role: 'user', content: 'Who has the key?' }],
  maxTokens: 16,
  sampling: { temperature: 0 },
};

async function piecesOf(pieces: AsyncIterable<ChatPiece>): Promise<ChatPiece[]> {
  const all: ChatPiece[] = [];
  for await (const piece of pieces) all.push(piece);
  return all;
}
const textOf = (pieces: readonly ChatPiece[]) => pieces.map(({ text }) => text).join('');
const streamed = async (client = clientWith()) => textOf(await piecesOf(client.stream(REQUEST)));

/** Refuses the first `times` chats. */
function refuseFirst(times: number, refuse: (response: ServerResponse) => void): void {
  standIn.chat = (request, response) => {
    if (standIn.requests.length <= times) refuse(response);
    else standIn.answer(request, response);
  };
}

describe('chat', () => {
  it('sends the chat and reads text, reason and usage', async () => {
    const answer = await clientWith({ apiKey: KEY }).chat({
      ...REQUEST,
      stop: ['\n'],
      sampling: { temperature: 0.5, seed: 7, topP: 1 },
    });
    expect(answer).toEqual({
      text: 'base:notes read u: Who has the key?',
      finishReason: 'stop',
      usage: { promptTokens: 11, completionTokens: 3, cachedPromptTokens: 5, cartridgeTokens: 64 },
    });
    expect(standIn.requests).toEqual([
      {
        method: 'POST',
        path: '/v1/chat/completions',
        authorization: `Bearer ${KEY}`,
        body: {
          model: 'base:notes',
          messages: REQUEST.messages,
          max_tokens: 16,
          temperature: 0.5,
          seed: 7,
          stop: ['\n'],
        },
      },
    ]);
  });

  it('reads packed log-probs with token ids', async () => {
    const pack = (bytes: ArrayBufferView) => [Buffer.from(bytes.buffer).toString('base64')];
    const fingerprint = {
      completion_ids: [[5, 2]],
      packed_chosen_logprobs: null,
      packed_topk_indices: pack(Int32Array.of(5, 9, 2, 7)),
      packed_topk_logprobs: pack(Float32Array.from([0.6, 0.3, 0.999, 0.0001].map(Math.log))),
    };
    standIn.chat = (_request, response) =>
      sendJson(response, 200, completionOf('Mara', { system_fingerprint: JSON.stringify(fingerprint) }));
    const { tokenIds, topLogprobs } = await clientWith({}, 20).chat({ ...REQUEST, topLogprobs: 2 });
    expect(tokenIds).toEqual(Int32Array.of(5, 2));
    expect(topLogprobs).toMatchObject({ rows: 2, k: 2, tokenIndex: Int32Array.of(0, 0, 1), tokenId: Int32Array.of(5, 9, 2) });
    expect(topLogprobs?.logprob[1]).toBeCloseTo(Math.log(0.3), 6);
    expect(standIn.requests[0]?.body).toMatchObject({ logprobs: true, top_logprobs: 2, logprobs_in_fingerprint: true });
  });

  it('asks for no more log-probs than the server can name', async () => {
    await expect(clientWith().chat({ ...REQUEST, topLogprobs: 2 })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    expect(standIn.requests).toEqual([]);
  });

  it.each([
    ['no JSON', 'oops', /is not JSON/],
    ['no choice', '{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}', /choices/],
    ['no usage', '{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}', /usage/],
    [
      'another end',
      '{"choices":[{"message":{"content":"a"},"finish_reason":"content_filter"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}',
      /content_filter/,
    ],
  ])('refuses an answer with %s', async (_what, text, message) => {
    standIn.chat = (_request, response) => response.end(text);
    await expect(clientWith().chat(REQUEST)).rejects.toMatchObject({
      code: 'SERVER_FAILED',
      message: expect.stringMatching(message),
    });
  });
});

describe('stream', () => {
  it('gives the text as it comes and the usage at its end', async () => {
    let go = () => {};
    standIn.chat = (_request, response) => {
      const [begin, first, ...rest] = chunksOf(['Mara ', 'Quill']);
      response.writeHead(200).write(eventText([begin!, first!]));
      go = () => response.end(eventText(rest));
    };
    const pieces: ChatPiece[] = [];
    for await (const piece of clientWith().stream(REQUEST)) {
      pieces.push(piece);
      if (piece.text === 'Mara ') go();
    }
    expect(textOf(pieces)).toBe('Mara Quill');
    expect(pieces.at(-2)).toEqual({ text: '', finishReason: 'stop' });
    expect(pieces.at(-1)).toMatchObject({ usage: { promptTokens: 11, completionTokens: 3 } });
    expect(standIn.requests[0]?.body).toMatchObject({ stream: true, stream_options: { include_usage: true } });
  });

  it('reads the same however the bytes are cut', async () => {
    const answer = ['Ça ', 'va: 🔑', ' und\r\n', '{"a": "data: x"}'];
    const bytes = Buffer.from(`: a comment\r\n\r\n${eventText(chunksOf(answer)).replaceAll('\n\n', '\r\n\r\n')}`);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(bytes.length), { maxLength: 12 }), async (cuts) => {
        const ends = [...cuts.sort((a, b) => a - b), bytes.length];
        standIn.chat = async (_request, response) => {
          let start = 0;
          for (const end of ends) {
            response.write(bytes.subarray(start, end));
            start = end;
            await new Promise(setImmediate);
          }
          response.end();
        };
        expect(await streamed()).toBe(answer.join(''));
      }),
      { numRuns: 25 },
    );
  });

  it('does not take a part of an answer for the whole', async () => {
    standIn.chat = (_request, response) => sendEvents(response, chunksOf(['Mara']).slice(0, 2));
    await expect(streamed()).rejects.toMatchObject({ code: 'SERVER_FAILED', message: expect.stringMatching(/in the middle/) });
    standIn.chat = (_request, response) => {
      response.writeHead(200).write(eventText(chunksOf(['Mara']).slice(0, 2)), () => response.destroy());
    };
    await expect(streamed()).rejects.toMatchObject({ code: 'SERVER_FAILED', message: expect.stringMatching(/was lost/) });
    expect(standIn.requests).toHaveLength(2);
  });

  it('reports an error in the middle', async () => {
    standIn.chat = (_request, response) =>
      sendEvents(response, [
        ...chunksOf(['Mara']).slice(0, 2),
        '{"error":{"message":"the engine failed","type":"server_error"}}',
      ]);
    await expect(streamed()).rejects.toMatchObject({
      code: 'SERVER_FAILED',
      message: `${standIn.url} broke the answer off: the engine failed`,
    });
  });

  it('bounds an event', async () => {
    let open = true;
    standIn.chat = (_request, response) => {
      response.on('close', () => {
        open = false;
      });
      const more = () => {
        if (open) response.write('x'.repeat(1 << 16), more);
      };
      response.write('data: ', more);
    };
    await expect(streamed()).rejects.toMatchObject({ code: 'SERVER_FAILED', message: expect.stringMatching(/characters/) });
    await expect.poll(() => open).toBe(false);
  });

  it('ends the request when nobody reads on', async () => {
    const closed = new Promise((resolve) => {
      standIn.chat = (_request, response) => {
        response.writeHead(200).write(eventText(chunksOf(['Mara']).slice(0, 2)));
        response.on('close', resolve);
      };
    });
    for await (const { text } of clientWith().stream(REQUEST)) if (text !== '') break;
    await closed;
  });
});

describe('failures', () => {
  it.each([
    [401, 'NOT_ALLOWED'],
    [403, 'NOT_ALLOWED'],
    [404, 'NOT_FOUND'],
    [500, 'SERVER_FAILED'],
  ])('tells what the server says with status %i', async (status, code) => {
    standIn.chat = (_request, response) => sendJson(response, status, { error: { message: 'not so', type: 'x', code: null } });
    for (const ask of [() => clientWith().chat(REQUEST), () => streamed()]) {
      await expect(ask()).rejects.toMatchObject({ code, message: `${standIn.url} answered ${status}: not so` });
    }
    expect(standIn.requests).toHaveLength(2);
  });

  it.each([
    [
      'OpenAI',
      { error: { message: 'too long', type: 'invalid_request_error', code: 'context_length_exceeded' } },
      'CONTEXT_OVERFLOW',
    ],
    ['llama-server', { error: { message: 'too long', type: 'exceed_context_size_error', code: 400 } }, 'CONTEXT_OVERFLOW'],
    ['Tokasaurus', { detail: 'too long' }, 'SERVER_FAILED'],
  ])('reads an error of %s', async (_server, body, code) => {
    standIn.chat = (_request, response) => sendJson(response, 400, body);
    await expect(streamed()).rejects.toMatchObject({ code, message: `${standIn.url} answered 400: too long` });
  });

  it('shows a part of a page that is no answer of the API', async () => {
    standIn.chat = (_request, response) => response.writeHead(404).end('x'.repeat(1 << 20));
    await expect(streamed()).rejects.toMatchObject({ code: 'NOT_FOUND', message: expect.stringMatching(/x{500}…$/) });
  });

  it.each([429, 503])('tries again after %i, as late as the server asks', async (status) => {
    const refuse = (response: ServerResponse) =>
      sendJson(response, status, { error: { message: 'busy', type: 'x' } }, { 'retry-after': '0.05' });
    refuseFirst(2, refuse);
    const started = performance.now();
    expect(await streamed()).toContain('Who has the key?');
    expect(performance.now() - started).toBeGreaterThan(95);
    expect(retries).toEqual([1, 2].map((n) => `${standIn.url} answered ${status}: busy; trying again (${n} of 2)`));
  });

  it('gives up on a server that stays busy, or asks for too much patience', async () => {
    const busy =
      (headers = {}) =>
      (_request: unknown, response: ServerResponse) =>
        sendJson(response, 429, { error: { message: 'busy', type: 'x' } }, headers);
    standIn.chat = busy();
    await expect(clientWith().chat(REQUEST)).rejects.toMatchObject({
      code: 'OVERLOADED',
      message: expect.stringMatching(/busy/),
    });
    expect(standIn.requests).toHaveLength(3);
    standIn.chat = busy({ 'retry-after': '3600' });
    await expect(clientWith().chat(REQUEST)).rejects.toMatchObject({ code: 'OVERLOADED' });
    expect(standIn.requests).toHaveLength(4);
  });

  it('tries again when the connection breaks, and says so when nobody is there', async () => {
    refuseFirst(1, (response) => response.destroy());
    expect(await streamed()).toContain('Who has the key?');
    expect(retries).toHaveLength(1);
    const gone = await OpenAiStandIn.start();
    const url = gone.url;
    await gone.stop();
    await expect(clientWith({ url }).chat(REQUEST)).rejects.toMatchObject({
      code: 'SERVER_FAILED',
      message: expect.stringMatching(/cannot be reached .*ECONNREFUSED/),
    });
  });

  it('does not wait for ever', async () => {
    standIn.chat = () => {};
    const hasty = clientWith({ silenceMs: 50 });
    for (const ask of [() => hasty.chat(REQUEST), () => streamed(hasty)]) {
      await expect(ask()).rejects.toMatchObject({ code: 'SERVER_FAILED', message: expect.stringMatching(/nothing for 0\.05 s/) });
    }
    standIn.chat = (_request, response) => response.writeHead(200).write(eventText(chunksOf(['Mara']).slice(0, 2)));
    await expect(streamed(hasty)).rejects.toMatchObject({ code: 'SERVER_FAILED' });
    expect(retries).toEqual([]);
  });

  it('can be cancelled while it waits for a slot, an answer, or a further try', async () => {
    const cancelled = { code: 'CANCELLED' };
    const client = clientWith({ maxRequests: 1, retry: { attempts: 3, delayMs: 60_000 } });
    standIn.chat = () => {};
    const [running, waiting] = [new AbortController(), new AbortController()];
    const first = client.chat(REQUEST, running.signal);
    const second = client.chat(REQUEST, waiting.signal);
    waiting.abort();
    await expect(second).rejects.toMatchObject(cancelled);
    await expect.poll(() => standIn.requests.length).toBe(1);
    running.abort();
    await expect(first).rejects.toMatchObject(cancelled);
    standIn.chat = (_request, response) => response.destroy();
    const trying = new AbortController();
    const third = client.chat(REQUEST, trying.signal);
    await expect.poll(() => retries.length).toBe(1);
    trying.abort();
    await expect(third).rejects.toMatchObject(cancelled);
  });

  it('runs only so many requests at a time', async () => {
    let running = 0;
    let most = 0;
    standIn.chat = async (request, response) => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setTimeout(resolve, 5));
      running--;
      standIn.answer(request, response);
    };
    const client = clientWith({ maxRequests: 2 });
    await Promise.all(Array.from({ length: 7 }, () => client.chat(REQUEST)));
    expect(most).toBe(2);
  });

  it('keeps the key to itself', async () => {
    standIn.chat = ({ authorization }, response) =>
      sendJson(response, 401, { error: { message: `wrong: ${authorization}`, type: 'x' } });
    await expect(clientWith({ apiKey: KEY }).chat(REQUEST)).rejects.toMatchObject({
      message: expect.stringMatching(/wrong: Bearer …$/),
    });
    standIn.chat = (_request, response) => response.writeHead(307, { location: 'http://other.example/v1/chat' }).end();
    await expect(clientWith({ apiKey: KEY }).chat(REQUEST)).rejects.toMatchObject({
      code: 'SERVER_FAILED',
      message: expect.stringMatching(/redirects to http:\/\/other\.example/),
    });
    expect(() => serverWith({ apiKey: `${KEY}\n` })).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining(KEY) }),
    );
  });
});

describe('the address', () => {
  it.each(['', '/', '/v1', '/v1/'])('may end with "%s"', async (end) => {
    expect(await listModels(serverWith({ url: `${standIn.url}${end}` }))).toEqual(standIn.models);
  });

  it.each(['localhost:8321', 'file:///etc/passwd', 'http://me:secret@host', 'http://host?a=b'])('may not be %s', (url) => {
    expect(() => serverWith({ url })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.not.stringContaining('secret') }),
    );
  });

  it('has a path where the API lies deeper', async () => {
    const refused = listModels(serverWith({ url: `${standIn.url}/api/v1` }));
    await expect(refused).rejects.toMatchObject({
      code: 'NOT_FOUND',
      message: expect.stringMatching(/no route \/api\/v1\/models/),
    });
  });
});
