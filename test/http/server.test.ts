import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { writeCartridge } from '../../src/cartridge/cartridge-file.js';
import { ModelSession } from '../../src/pipeline/model-session.js';
import { resolveSettings } from '../../src/pipeline/resolve-settings.js';
import type { SettingsInput } from '../../src/pipeline/settings.js';
import { addKey } from '../../src/serving/auth/key-file.js';
import type { RequestLogEntry } from '../../src/serving/http/track-request.js';
import { type RunningServer, startServer } from '../../src/serving/server.js';
import { parseSamples, samplesWhenIdle } from '../support/server-metrics.js';
import { textCartridge } from '../support/text-cartridge.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-server-'));
const cartridge = join(folder, 'notes.safetensors');
const NOTES = 'The harbour master is called Ines. She keeps three cats.';
/** Rows of the cartridge of that text. */
let rows: number;
const LONG = { ignore_eos: true, max_tokens: 1500, stream: true };

beforeAll(async () => {
  const session = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
  const built = await textCartridge(session, NOTES);
  rows = built.tokenCount;
  await writeCartridge(cartridge, built, { dtype: 'f16' });
  await session.dispose();
});
afterAll(() => rmSync(folder, { recursive: true }));

interface ChatCompletion {
  choices: { message: { content: string } }[];
  usage: { prompt_tokens: number; completion_tokens: number; cartridge_tokens: number };
}

let server: RunningServer;
let log: RequestLogEntry[];
afterEach(() => server.close());

async function start(serving: SettingsInput['serving'] = {}): Promise<void> {
  const common = { port: 0, dataFolder: join(folder, 'serving'), cartridges: [`notes=${cartridge}`] };
  const settings = resolveSettings({ device: 'cpu', threads: 1, serving: { ...common, ...serving } });
  log = [];
  server = await startServer({ ...settings, model: 'pocket' }, { onLog: (entry) => log.push(entry) });
}

function chat(more: object, signal?: AbortSignal): Promise<Response> {
  return fetch(`${server.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'pocket',
      messages: [{ role: 'user', content: 'Who is the harbour master?' }],
      temperature: 0,
      ...more,
    }),
    ...(signal && { signal }),
  });
}

const readMetrics = async () => parseSamples(await (await fetch(`${server.url}/metrics`)).text());
const requests = async (state: string) => (await readMetrics()).get(`requests{state="${state}"}`);

/** Sends bytes as they are and returns all that comes back. */
function sendRaw(text: string): Promise<string> {
  const { hostname, port } = new URL(server.url);
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(Number(port), hostname, () => socket.end(text));
    socket.on('data', (bytes) => {
      answer += bytes.toString();
    });
    socket.on('end', () => resolve(answer)).on('error', reject);
  });
}

test('answers with and without a cartridge, and its figures add up', async () => {
  await start();
  const alone = (await (await chat({ max_tokens: 8 })).json()) as ChatCompletion;
  const behind = (await (await chat({ max_tokens: 8, model: 'pocket:notes' })).json()) as ChatCompletion;
  expect(behind.choices[0]!.message.content).not.toBe(alone.choices[0]!.message.content);
  expect(behind.usage.cartridge_tokens).toBe(rows);

  const metrics = await samplesWhenIdle(readMetrics);
  const owners = ['requests', 'cartridges', 'cached_turns', 'free'].map((owner) => metrics.get(`kv_cells{owner="${owner}"}`)!);
  expect(owners.reduce((sum, cells) => sum + cells)).toBe(server.plan.contextTokens);
  expect(owners.slice(0, 2)).toEqual([0, rows]);
  expect(metrics.get('cartridges_loaded')).toBe(1);
  const sum = (name: 'prompt_tokens' | 'completion_tokens') => alone.usage[name] + behind.usage[name];
  expect(metrics.get('tokens_total{kind="prompt"}')).toBe(sum('prompt_tokens'));
  expect(metrics.get('tokens_total{kind="completion"}')).toBe(sum('completion_tokens'));
  expect(metrics.get('answers_total{outcome="finished"}')).toBe(2);
  expect(metrics.get('time_to_first_token_seconds_count')).toBe(2);
  expect(metrics.get('inter_token_seconds_count')).toBe(sum('completion_tokens') - 2);
  expect(metrics.get('http_requests_total{method="POST",route="/v1/chat/completions",status="200"}')).toBe(2);
});

test('takes what its settings allow, and no more', async () => {
  await start({ maxChoices: 2, defaultAnswerTokens: 3 });
  const refused = await chat({ n: 3 });
  expect([refused.status, ((await refused.json()) as { error: object }).error]).toEqual([
    400,
    expect.objectContaining({ param: 'n' }),
  ]);
  const answer = (await (await chat({ n: 2, ignore_eos: true })).json()) as ChatCompletion;
  expect([answer.choices.length, answer.usage.completion_tokens]).toEqual([2, 6]);
});

test('a client that goes away frees its cells at once, and is logged', async () => {
  await start();
  const abort = new AbortController();
  const response = await chat(LONG, abort.signal);
  await response.body!.getReader().read();
  expect(await requests('running')).toBe(1);
  abort.abort();
  const metrics = await samplesWhenIdle(readMetrics);
  expect(metrics.get('kv_cells{owner="requests"}')).toBe(0);
  expect(metrics.get('answers_total{outcome="cancelled"}')).toBe(1);
  expect(log.find(({ path }) => path === '/v1/chat/completions')).toMatchObject({ scope: 'local', status: 499 });
});

test('a client that does not wait for a whole answer frees its cells too', async () => {
  await start();
  const abort = new AbortController();
  const answer = chat({ ...LONG, stream: false }, abort.signal);
  await expect.poll(() => requests('running')).toBe(1);
  abort.abort();
  await expect(answer).rejects.toThrow();
  expect((await samplesWhenIdle(readMetrics)).get('kv_cells{owner="requests"}')).toBe(0);
});

test('a key sees and uses its own cartridges, and no difference between a foreign one and none', async () => {
  const keys = join(folder, 'keys.json');
  const grant = { admin: false, limits: {}, expiresAt: null };
  const ana = await addKey(keys, { ...grant, name: 'ana', cartridges: ['notes'] });
  const bob = await addKey(keys, { ...grant, name: 'bob', cartridges: ['other'] });
  await start({ keys });
  const ask = async (secret: string, path: string, body?: object) => {
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${secret}` };
    const init = body ? { method: 'POST', body: JSON.stringify(body) } : {};
    const response = await fetch(server.url + path, { headers, ...init });
    return { status: response.status, text: (await response.text()).replaceAll('notes', 'NAME').replaceAll('other', 'NAME') };
  };
  const question = { messages: [{ role: 'user', content: 'Hello' }], max_tokens: 2 };
  expect((await chat({})).status).toBe(401);
  expect((await ask(ana.secret, '/v1/models')).text).toContain('pocket:NAME');
  expect((await ask(bob.secret, '/v1/models')).text).not.toContain('pocket:NAME');
  const asked = (secret: string, model: string) => ask(secret, '/v1/chat/completions', { ...question, model });
  expect((await asked(ana.secret, 'pocket:notes')).status).toBe(200);
  const foreign = await asked(bob.secret, 'pocket:notes');
  expect(foreign).toEqual(await asked(bob.secret, 'pocket:other'));
  expect(foreign.status).toBe(404);
  expect(await ask(bob.secret, '/v1/models/pocket:notes')).toEqual(await ask(bob.secret, '/v1/models/pocket:other'));
  expect((await ask(ana.secret, '/v1/cartridges/notes')).status).toBe(403);
});

test('a full queue refuses with the time to come back', async () => {
  await start({ maxRequests: 1, queueSize: 1 });
  const abort = new AbortController();
  const [first, second] = [chat(LONG, abort.signal), chat(LONG, abort.signal)];
  await first;
  await expect.poll(() => requests('waiting')).toBe(1);
  const refused = await chat({ max_tokens: 1 });
  expect(refused.status).toBe(429);
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  expect(await refused.json()).toMatchObject({ error: { type: 'rate_limit_error', code: 'overloaded' } });
  abort.abort();
  await second.catch(() => undefined);
  await expect.poll(() => requests('running')).toBe(0);
  expect((await chat({ max_tokens: 1 })).status).toBe(200);
});

test('what is no request of this server is refused in the same shape', async () => {
  await start();
  const post =
    'POST /v1/chat/completions HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n';
  expect(await sendRaw('GET /ping HTTP/1.1\r\nConnection: close\r\nHost: evil.com\r\n\r\n')).toMatch(
    /^HTTP\/1.1 403 [\s\S]*"code":"not_allowed"/,
  );
  expect(await sendRaw(`${post}Host: localhost\r\nOrigin: http://evil.com\r\n\r\n{}`)).toMatch(
    /^HTTP\/1.1 403 [\s\S]*"code":"not_allowed"/,
  );
  expect(await sendRaw(`${post}Host: localhost\r\n\r\n{}`)).toMatch(/^HTTP\/1.1 400 [\s\S]*"code":"invalid_input"/);
  expect(await sendRaw('GET /../.. HTTP/1.1\r\nConnection: close\r\nHost: a b\r\n\r\n')).toMatch(/^HTTP\/1.1 40/);
  expect(await sendRaw('GET http://evil.com/ping HTTP/1.1\r\nConnection: close\r\nHost: evil.com\r\n\r\n')).toMatch(
    /^HTTP\/1.1 403/,
  );
});

test('a stream is finished when the server stops, and ended at the deadline', async () => {
  await start();
  const text = (await chat({ ...LONG, max_tokens: 300 })).text();
  const closed = server.close();
  expect(await text).toMatch(/"finish_reason":"length"[\s\S]*data: \[DONE\]/);
  await closed;
  await expect(fetch(`${server.url}/ping`)).rejects.toThrow();

  await start({ drainSeconds: 0 });
  const response = await chat(LONG);
  const rest = response.text().catch(() => 'broken off');
  await server.close();
  expect(await rest).not.toContain('[DONE]');
});

test('a connection without a request does not hold up a server that stops', async () => {
  await start();
  const { hostname, port } = new URL(server.url);
  const socket = connect(Number(port), hostname);
  await new Promise((resolve) => socket.once('connect', resolve));
  const started = performance.now();
  await server.close();
  expect(performance.now() - started).toBeLessThan(5000);
});

test('the document describes every route, and all that it refers to is in it', async () => {
  await start();
  const document = (await (await fetch(`${server.url}/openapi.json`)).json()) as { paths: object };
  const paths = ['/ready', '/v1/models', '/v1/chat/completions', '/v1/completions', '/v1/cartridges', '/v1/files', '/v1/batches'];
  paths.push('/metrics', '/docs', '/openapi.json');
  expect(Object.keys(document.paths)).toEqual(expect.arrayContaining(paths));
  const references = [...JSON.stringify(document).matchAll(/"\$ref":"#([^"]+)"/g)].map((match) => match[1]!);
  expect(references.length).toBeGreaterThan(0);
  for (const reference of references) {
    const found = reference
      .split('/')
      .slice(1)
      .reduce((value: unknown, name) => (value as Record<string, unknown> | undefined)?.[name], document as unknown);
    expect(found, reference).toBeDefined();
  }
  const page = await (await fetch(`${server.url}/docs`)).text();
  for (const path of paths) expect(page).toContain(path);
});
