import OpenAI, { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PocketServer } from '../support/pocket-server.js';

/** The official client against a whole server with keys: what only comes together there. */

let server: PocketServer;
beforeAll(async () => {
  server = await PocketServer.start({
    cartridges: { harbour: 'The harbour master is called Ines.', clinic: 'The clinic opens at nine.' },
    keys: {
      ana: { cartridges: ['harbour'] },
      bob: { cartridges: ['clinic'], limits: { tokensPerMinute: 20 } },
      eve: { cartridges: ['*'], limits: { concurrency: 1 } },
    },
  });
});
afterAll(() => server.close());

function clientOf(key: string, apiKey = server.secrets.get(key)!): OpenAI {
  return new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });
}

const messages: OpenAI.ChatCompletionMessageParam[] = [{ role: 'user', content: 'Who is the harbour master?' }];
const params = { model: 'pocket:harbour', messages, temperature: 0, max_completion_tokens: 12 };
const endless = { ...params, max_completion_tokens: 1500, ignore_eos: true };

describe("OpenAI's client with a key", () => {
  it('lists the models that the key may use', async () => {
    const ids = [];
    for await (const { id } of clientOf('ana').models.list()) ids.push(id);
    expect(ids).toEqual(['pocket', 'pocket:harbour']);
  });

  it('gets the same answer whole, as a stream, and with log-probs', async () => {
    const client = clientOf('ana');
    // Leaves its turns, so that the next two reuse alike: a prompt that is read in other pieces is rounded differently.
    await client.chat.completions.create(params);
    const whole = await client.chat.completions.create({ ...params, logprobs: true, top_logprobs: 3 });
    const [choice] = whole.choices;
    expect(choice!.logprobs!.content!.map(({ token }) => token).join('')).toBe(choice!.message.content);
    for (const { logprob, top_logprobs: top } of choice!.logprobs!.content!) {
      expect(top).toHaveLength(3);
      expect(logprob).toBe(top[0]!.logprob);
    }
    const stream = client.chat.completions.stream({ ...params, stream_options: { include_usage: true } });
    const final = await stream.finalChatCompletion();
    expect(final.choices[0]!.message.content).toBe(choice!.message.content);
    expect(final.usage).toMatchObject({
      completion_tokens: whole.usage!.completion_tokens,
      cartridge_tokens: expect.any(Number),
    });
  });

  it('gets errors of its own kinds, with the id of the request', async () => {
    const create = (key: string, more: object = {}) => clientOf(key).chat.completions.create({ ...params, ...more });
    await expect(clientOf('ana', 'ck_wrong').models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
    await expect(create('bob')).rejects.toMatchObject({
      constructor: OpenAI.NotFoundError,
      code: 'model_not_found',
      param: 'model',
      requestID: expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
    await expect(create('ana', { temperature: 3 })).rejects.toMatchObject({
      constructor: OpenAI.BadRequestError,
      param: 'temperature',
    });
    const cartridges = [{ id: 'absent', source: 'wandb' }];
    await expect(create('eve', { model: 'pocket', cartridges })).rejects.toMatchObject({
      constructor: OpenAI.BadRequestError,
      param: 'cartridges',
    });
    await expect(create('ana', { tools: [] })).rejects.toMatchObject({ constructor: OpenAI.BadRequestError, param: 'tools' });
  });

  it('is told when its key has too much under way or has used up its tokens', async () => {
    const eve = clientOf('eve');
    const stream = await eve.chat.completions.create({ ...endless, stream: true });
    await expect(eve.chat.completions.create(params)).rejects.toBeInstanceOf(OpenAI.RateLimitError);
    stream.controller.abort();
    const bob = clientOf('bob');
    const ask = () => bob.chat.completions.create({ ...params, model: 'pocket:clinic' });
    await ask();
    const refusal = await ask().catch((error: InstanceType<typeof OpenAI.RateLimitError>) => error);
    expect(refusal).toBeInstanceOf(OpenAI.RateLimitError);
    expect(Number((refusal as InstanceType<typeof OpenAI.RateLimitError>).headers!.get('retry-after'))).toBeGreaterThan(0);
  });

  it('breaks answers off, and nothing of them is left', async () => {
    const client = clientOf('ana');
    for await (const _part of await client.chat.completions.create({ ...endless, stream: true })) break;
    const controller = new AbortController();
    const whole = client.chat.completions.create(endless, { signal: controller.signal });
    await expect.poll(async () => (await server.metrics()).get('requests{state="running"}'), { timeout: 30_000 }).toBe(1);
    controller.abort();
    await expect(whole).rejects.toBeInstanceOf(OpenAI.APIUserAbortError);
    const metrics = await server.whenIdle();
    expect(metrics.get('kv_cells{owner="requests"}')).toBe(0);
    expect(metrics.get('answers_total{outcome="cancelled"}')).toBeGreaterThanOrEqual(2);
  });

  it('has a batch answered as if it had sent the requests itself', async () => {
    const client = clientOf('ana');
    const bodies = [params, { ...params, model: 'pocket:clinic' }, { ...params, max_completion_tokens: 3 }];
    const lines = bodies.map((body, index) =>
      JSON.stringify({ custom_id: `r${index}`, method: 'POST', url: '/v1/chat/completions', body }),
    );
    const file = await client.files.create({ file: await toFile(Buffer.from(lines.join('\n')), 'in.jsonl'), purpose: 'batch' });
    const order = { input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h' } as const;
    const { id } = await client.batches.create(order);
    expect(await server.batchEnd(id, 'ana')).toMatchObject({ status: 'completed', request_counts: { completed: 2, failed: 1 } });
    const batch = await client.batches.retrieve(id);
    const output = await (await client.files.content(batch.output_file_id!)).text();
    const answers = output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(answers.map(({ custom_id }) => custom_id)).toEqual(['r0', 'r2']);
    const direct = await client.chat.completions.create(params);
    const { prompt_tokens, cartridge_tokens } = direct.usage as unknown as Record<string, number>;
    expect(answers[0].response.body).toMatchObject({ model: params.model, usage: { prompt_tokens, cartridge_tokens } });
    expect(await (await client.files.content(batch.error_file_id!)).text()).toContain('model_not_found');
    await expect(clientOf('bob').batches.retrieve(id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });
});
