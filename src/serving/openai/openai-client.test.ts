import type { AddressInfo } from 'node:net';
import { serve } from '@hono/node-server';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ServedPocket, servePocket, withCaller } from '../../../test/support/served-pocket.js';
import { DEFAULT_ANSWER_LIMITS } from './answer-limits.js';
import { openaiRoutes } from './routes.js';

/** The official client against these routes behind a real socket. */
describe('the openai client', () => {
  let served: ServedPocket;
  let server: ReturnType<typeof serve>;
  let client: OpenAI;

  beforeAll(async () => {
    served = await servePocket();
    const app = withCaller(openaiRoutes({ ...served, limits: DEFAULT_ANSWER_LIMITS }));
    const port = await new Promise<number>((resolve) => {
      server = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, (address: AddressInfo) => resolve(address.port));
    });
    client = new OpenAI({ baseURL: `http://127.0.0.1:${port}/v1`, apiKey: 'none', maxRetries: 0 });
  });
  afterAll(async () => {
    server.close();
    await served.dispose();
  });

  const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'Who is the harbour master?' }];
  const params = { model: 'pocket:harbour', temperature: 0, max_completion_tokens: 12, messages };
  const lastFailed = async () => {
    const answer = served.observer.answers.at(-1)!;
    while (answer.failed === undefined && answer.finished === undefined) await new Promise((resolve) => setTimeout(resolve, 5));
    await served.engine.whenIdle();
    expect(served.library.holds).toBe(0);
    return answer;
  };

  it('lists models', async () => {
    const ids = [];
    for await (const { id } of client.models.list()) ids.push(id);
    expect(ids).toContain('pocket:clinic');
    expect(await client.models.retrieve('pocket:clinic')).toMatchObject({ object: 'model' });
  });

  it('chats, whole and as a stream', async () => {
    const whole = await client.chat.completions.create({ ...params, logprobs: true, top_logprobs: 2 });
    expect(whole.usage).toMatchObject({ cartridge_tokens: served.rows.harbour });
    const stream = client.chat.completions.stream({ ...params, logprobs: true, top_logprobs: 2 });
    const final = await stream.finalChatCompletion();
    expect(final.choices[0]!.message.content).toBe(whole.choices[0]!.message.content);
    expect(final.choices[0]!.logprobs!.content).toEqual(whole.choices[0]!.logprobs!.content);
    const parts = await client.chat.completions.create({ ...params, stream: true, stream_options: { include_usage: true } });
    let text = '';
    let completionTokens = 0;
    for await (const { choices, usage } of parts) {
      text += choices[0]?.delta.content ?? '';
      completionTokens += usage?.completion_tokens ?? 0;
    }
    expect([text, completionTokens]).toEqual([whole.choices[0]!.message.content, whole.usage!.completion_tokens]);
  });

  it('continues a chat with the message that came back', async () => {
    const { message } = (await client.chat.completions.create(params)).choices[0]!;
    const next = await client.chat.completions.create({ ...params, messages: [...messages, message, ...messages] });
    expect(next.choices[0]!.finish_reason).toMatch(/stop|length/);
  });

  it('completes texts', async () => {
    const whole = await client.completions.create({
      model: 'pocket',
      prompt: ['The harbour', 'The clinic'],
      temperature: 0,
      max_tokens: 5,
    });
    expect(whole.choices.map(({ index }) => index)).toEqual([0, 1]);
  });

  it('gets errors of its own kinds', async () => {
    await expect(client.chat.completions.create({ ...params, model: 'pocket:nobody' })).rejects.toMatchObject({
      constructor: OpenAI.NotFoundError,
      code: 'model_not_found',
      param: 'model',
    });
    await expect(client.chat.completions.create({ ...params, tools: [] })).rejects.toMatchObject({
      constructor: OpenAI.BadRequestError,
      param: 'tools',
    });
    await expect(client.chat.completions.create({ ...params, max_completion_tokens: 5000, stream: true })).rejects.toMatchObject({
      constructor: OpenAI.BadRequestError,
      code: 'context_length_exceeded',
    });
  });

  const endless = { ...params, max_completion_tokens: 1900, ignore_eos: true };

  it('breaks a stream off', async () => {
    const stream = await client.chat.completions.create({ ...endless, stream: true });
    for await (const _part of stream) break;
    const { failed, tokens } = await lastFailed();
    expect(failed).toBe('CANCELLED');
    expect(tokens).toBeLessThan(1900);
  });

  it('breaks a whole answer off', async () => {
    const controller = new AbortController();
    const pending = client.chat.completions.create(endless, { signal: controller.signal });
    const before = served.observer.answers.length;
    while (!(served.observer.answers.length > before && served.observer.answers.at(-1)!.tokens > 0)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    controller.abort();
    await expect(pending).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
    expect((await lastFailed()).failed).toBe('CANCELLED');
  });
});
