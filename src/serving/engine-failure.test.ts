import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { PocketServer } from '../../test/support/pocket-server.js';
import { LlamaSequenceContext } from '../inference/llama-sequence-context.js';

const NOTES = 'The harbour master is called Ines. She keeps three cats.';
const LONG = { ignore_eos: true, max_tokens: 1000 };
/** libllama refuses a batch with it, and takes none of it. */
const NO_TOKEN = -1;

let server: PocketServer;
beforeAll(async () => {
  server = await PocketServer.start({ cartridges: { notes: NOTES }, serving: { maxRequests: 2 } });
});
afterAll(() => server.close());

const question = (more: object = {}) => ({
  path: '/v1/chat/completions',
  json: {
    model: 'pocket:notes',
    messages: [{ role: 'user', content: 'Who is the harbour master?' }],
    temperature: 0,
    max_tokens: 12,
    ...more,
  },
});

/** Has the next decode fail in libllama itself. */
function failNextDecode(): void {
  const { decode } = LlamaSequenceContext.prototype;
  vi.spyOn(LlamaSequenceContext.prototype, 'decode').mockImplementationOnce(function (this: LlamaSequenceContext) {
    this.addRow(NO_TOKEN, 0, 0, false);
    return decode.call(this);
  });
}

const running = async (state: string) => (await server.metrics()).get(`requests{state="${state}"}`)!;

it('fails what is in flight with a clear error, goes on with what waits, and leaks nothing', async () => {
  const alone = (await server.send(question())).json;
  const cells = await server.whenIdle();

  const stream = await server.open(question({ ...LONG, stream: true }));
  await once(stream, 'data');
  const rest = text(stream);
  const whole = server.send(question(LONG));
  await expect.poll(() => running('running')).toBe(2);
  const waiting = server.send(question());
  await expect.poll(() => running('waiting')).toBe(1);
  failNextDecode();

  const error = {
    message: expect.stringContaining('the engine failed'),
    type: 'server_error',
    param: null,
    code: 'engine_failure',
  };
  const refused = await whole;
  expect([refused.status, refused.json]).toEqual([500, { error }]);
  const events = (await rest).trimEnd().split('\n\n');
  expect(JSON.parse(events.at(-1)!.replace('data: ', ''))).toEqual({ error });
  expect(events).not.toContain('data: [DONE]');

  const next = (await server.send(question())).json;
  for (const { choices } of [(await waiting).json, next]) expect(choices).toEqual(alone.choices);
  expect(next.usage.cartridge_tokens).toBe(alone.usage.cartridge_tokens);
  expect((await server.send({ path: '/ready' })).status).toBe(200);

  const metrics = await server.whenIdle();
  const count = (name: string) => metrics.get(name);
  expect([count('answers_total{outcome="failed"}'), count('answers_total{outcome="finished"}')]).toEqual([2, 3]);
  expect(count('http_requests_total{method="POST",route="/v1/chat/completions",status="500"}')).toBe(1);
  expect(count('kv_cells{owner="requests"}')).toBe(0);
  expect(count('kv_cells{owner="cartridges"}')).toBe(cells.get('kv_cells{owner="cartridges"}'));
  const owners = ['requests', 'cartridges', 'cached_turns', 'free'].map((owner) => count(`kv_cells{owner="${owner}"}`)!);
  expect(owners.reduce((sum, owned) => sum + owned)).toBe(server.running.plan.contextTokens);
  expect(count('cartridges_loaded')).toBe(1);
});
