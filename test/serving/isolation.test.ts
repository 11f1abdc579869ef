import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Call, PocketServer, type Reply } from '../support/pocket-server.js';

/**
 * Keys × cartridges × endpoints. Ana has the cartridge harbour and Bob has clinic, both have common, an administrator has all.
 * Whatever is Bob's must look to Ana, in every byte, like what does not exist.
 */

const server = await PocketServer.start({
  cartridges: { harbour: 'The harbour master is called Ines.', clinic: 'The clinic opens at nine.', common: 'Lunch is at noon.' },
  keys: {
    ana: { cartridges: ['harbour', 'common'] },
    bob: { cartridges: ['clinic', 'common'] },
    root: { cartridges: ['*'], admin: true },
    gone: { cartridges: ['*'], admin: true },
    late: { cartridges: ['*'], admin: true, expiresAt: '2020-01-01T00:00:00.000Z' },
  },
});
afterAll(() => server.close());

type Answered = 'cartridge' | 'model' | 'file' | 'batch';

interface Endpoint {
  /** Whose requests get behind the door. */
  audience: 'everybody' | 'keys' | 'administrators';
  /** What the id of a request stands for; where there are several ways to name it, a request for each. */
  names?: Answered;
  requests: (id: string) => Omit<Call, 'path'> | Omit<Call, 'path'>[];
}

const messages = [{ role: 'user', content: 'Hello' }];
const order = { endpoint: '/v1/chat/completions', completion_window: '1h' };

/** Every place of a request where a cartridge can be named. */
function waysToName(id: string, prompt: object): object[] {
  const sources = [undefined, 'local', 'huggingface', 'wandb'];
  const fields = [false, true].flatMap((force_redownload) => sources.map((source) => ({ id, source, force_redownload })));
  const base = { max_tokens: 1, ...prompt };
  return [
    { ...base, model: `pocket:${id}` },
    ...fields.map((field) => ({ ...base, model: 'pocket', cartridges: [field] })),
    { ...base, model: 'pocket', cartridges: [{ id: 'common' }, { id }] },
    { ...base, model: `pocket:${id}`, stream: true },
  ];
}

function waysInChat(id: string): object[] {
  const content = `Be brief. <cartridge>{"id": "${id}"}</cartridge>`;
  const inBlock = { model: 'pocket', max_tokens: 1, messages: [{ role: 'system', content }, ...messages] };
  return [...waysToName(id, { messages }), inBlock];
}

const nothing = () => ({});
const EVERYBODY: Endpoint = { audience: 'everybody', requests: nothing };
const LIST: Endpoint = { audience: 'keys', requests: nothing };
const CHAT: Endpoint = { audience: 'keys', names: 'cartridge', requests: (id) => waysInChat(id).map((json) => ({ json })) };
const COMPLETION: Endpoint = {
  audience: 'keys',
  names: 'cartridge',
  requests: (id) => waysToName(id, { prompt: 'Hello' }).map((json) => ({ json })),
};
const SYNCHRONOUS: Endpoint = {
  audience: 'keys',
  names: 'cartridge',
  requests: (id) => ({ json: { requests: waysInChat(id).filter((body) => !('stream' in body)) } }),
};
const FILE: Endpoint = { audience: 'keys', names: 'file', requests: nothing };
const BATCH: Endpoint = { audience: 'keys', names: 'batch', requests: nothing };
const ADMIN: Endpoint = { audience: 'administrators', names: 'cartridge', requests: nothing };

const ENDPOINTS: Record<string, Endpoint> = {
  'GET /ping': EVERYBODY,
  'GET /health': EVERYBODY,
  'GET /ready': EVERYBODY,
  'GET /openapi.json': EVERYBODY,
  'GET /docs': EVERYBODY,
  // From this machine; whom it answers elsewhere has a test of its own.
  'GET /metrics': EVERYBODY,
  'GET /v1/models': LIST,
  'GET /v1/models/{model}': { audience: 'keys', names: 'model', requests: nothing },
  'POST /v1/chat/completions': CHAT,
  'POST /v1/cartridge/chat/completions': CHAT,
  'POST /custom/cartridge/chat/completions': CHAT,
  'POST /batch/cartridge/chat/completions': CHAT,
  'POST /v1/completions': COMPLETION,
  'POST /v1/cartridge/completions': COMPLETION,
  'POST /custom/cartridge/completions': COMPLETION,
  'POST /custom/synchronous-batch-completions': SYNCHRONOUS,
  'POST /custom/cartridge/synchronous-batch-completions': SYNCHRONOUS,
  'GET /v1/cartridges': LIST,
  'POST /v1/cartridges': {
    ...ADMIN,
    requests: () => ({ body: 'no cartridge', headers: { 'content-type': 'application/octet-stream' } }),
  },
  'GET /v1/cartridges/{id}': ADMIN,
  'DELETE /v1/cartridges/{id}': ADMIN,
  'POST /v1/cartridges/{id}/load': ADMIN,
  'POST /v1/cartridges/{id}/unload': ADMIN,
  'POST /v1/cartridges/{id}/reload': ADMIN,
  'PUT /v1/cartridges/{id}/aliases/{alias}': ADMIN,
  'DELETE /v1/cartridges/{id}/aliases/{alias}': ADMIN,
  'GET /v1/cartridges/downloads': { audience: 'administrators', requests: nothing },
  'POST /v1/cartridges/downloads': { ...ADMIN, requests: (id) => ({ json: { id, source: 'huggingface' } }) },
  'GET /v1/cartridges/downloads/{id}': ADMIN,
  'DELETE /v1/cartridges/downloads/{id}': ADMIN,
  'GET /v1/files': LIST,
  'POST /v1/files': { audience: 'keys', requests: nothing },
  'GET /v1/files/{id}': FILE,
  'GET /v1/files/{id}/content': FILE,
  'DELETE /v1/files/{id}': FILE,
  'GET /v1/batches': LIST,
  'POST /v1/batches': { audience: 'keys', names: 'file', requests: (id) => ({ json: { ...order, input_file_id: id } }) },
  'GET /v1/batches/{id}': BATCH,
  'POST /v1/batches/{id}/cancel': BATCH,
};

/** What Bob has, and names of the same length that nobody has. */
const foreign: Record<Answered, string> = { cartridge: 'clinic', model: 'pocket:clinic', file: '', batch: '' };
const missing: Record<Answered, string> = {
  cartridge: 'nobody',
  model: 'pocket:nobody',
  file: `file-${'0'.repeat(32)}`,
  batch: `batch_${'0'.repeat(32)}`,
};
const own: Record<Answered, string> = { cartridge: 'harbour', model: 'pocket:harbour', file: '', batch: '' };

function callsOf(endpoint: string, id: string): Call[] {
  const [method, pattern] = endpoint.split(' ') as [string, string];
  const query = endpoint === 'POST /v1/cartridges' ? `?id=${id}` : '';
  const path = pattern.replace('{alias}', 'other').replace(/\{\w+\}/, id) + query;
  return [ENDPOINTS[endpoint]!.requests(id)].flat().map((request) => ({ ...request, method, path }));
}

function ask(endpoint: string, id: string, key: string | undefined): Promise<Reply[]> {
  return Promise.all(callsOf(endpoint, id).map((call) => server.send({ ...call, ...(key !== undefined && { key }) })));
}

/** All of an answer that may tell something, without the id that was asked for. */
function tellable({ status, headers, text }: Reply, id: string) {
  const { date, 'x-request-id': requestId, 'keep-alive': keepAlive, ...rest } = headers;
  return { status, headers: rest, text: text.replaceAll(id, 'ID') };
}

async function createFor(key: string): Promise<{ file: string; batch: string }> {
  const body = { model: 'pocket', messages, max_tokens: 1 };
  const line = JSON.stringify({ custom_id: `of ${key}`, method: 'POST', url: '/v1/chat/completions', body });
  const { json: file } = await server.upload(line, key);
  const { json: batch } = await server.send({ path: '/v1/batches', key, json: { ...order, input_file_id: file.id } });
  expect((await server.batchEnd(batch.id, key)).status).toBe('completed');
  return { file: file.id, batch: batch.id };
}

const NO_KEYS = [undefined, 'gone', 'late'];
const endpoints = Object.keys(ENDPOINTS);
const of = (audience: Endpoint['audience']) => endpoints.filter((endpoint) => ENDPOINTS[endpoint]!.audience === audience);
const naming = endpoints.filter((endpoint) => ENDPOINTS[endpoint]!.names && ENDPOINTS[endpoint]!.audience === 'keys');

beforeAll(async () => {
  await server.revoke('gone');
  expect((await server.send({ method: 'PUT', path: '/v1/cartridges/clinic/aliases/nurses', key: 'root' })).status).toBe(200);
  Object.assign(foreign, await createFor('bob'));
  Object.assign(own, await createFor('ana'));
});

test('every endpoint of the document is in the matrix, and may refuse', async () => {
  const { json } = await server.send({ path: '/openapi.json' });
  const paths = json.paths as Record<string, Record<string, { responses: object }>>;
  const documented = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { responses }]) => ({ name: `${method.toUpperCase()} ${path}`, responses })),
  );
  expect(endpoints.toSorted()).toEqual(documented.map(({ name }) => name).toSorted());
  for (const { name, responses } of documented) expect(responses, name).toHaveProperty('default');
});

describe('who gets behind the door', () => {
  test.each(of('everybody'))('%s: everybody', async (endpoint) => {
    for (const key of [...NO_KEYS, 'ana', 'root']) expect((await ask(endpoint, '', key))[0]!.status).toBe(200);
  });

  test.each([...of('keys'), ...of('administrators')])('%s: nobody without a key', async (endpoint) => {
    const kind = ENDPOINTS[endpoint]!.names ?? 'cartridge';
    const replies = await Promise.all(
      NO_KEYS.flatMap((key) => [own, foreign].map(async (ids) => (await ask(endpoint, ids[kind], key))[0]!)),
    );
    expect(replies[0]!.status).toBe(401);
    for (const reply of replies) expect(tellable(reply, '')).toEqual(tellable(replies[0]!, ''));
  });

  test.each(of('administrators'))('%s: no key but that of an administrator', async (endpoint) => {
    const replies = await Promise.all(
      ['harbour', 'clinic', 'nobody', '..', '%00'].map(async (id) => (await ask(endpoint, id, 'ana'))[0]!),
    );
    expect(replies[0]).toMatchObject({ status: 403, json: { error: { code: 'not_allowed' } } });
    for (const reply of replies.slice(0, 3)) expect(tellable(reply, '')).toEqual(tellable(replies[0]!, ''));
    for (const reply of replies) expect([400, 403, 404]).toContain(reply.status);
    const [admin] = await ask(endpoint, 'nobody', 'root');
    expect([200, 400, 404]).toContain(admin!.status);
  });

  test.each(naming)('%s: a key with what is its own', async (endpoint) => {
    if (endpoint.startsWith('DELETE')) return;
    const { names } = ENDPOINTS[endpoint]!;
    const [reply] = await ask(endpoint, own[names!], 'ana');
    expect([200, 409]).toContain(reply!.status);
  });
});

describe('what is foreign looks like what does not exist', () => {
  test.each(naming)('%s', async (endpoint) => {
    const kind = ENDPOINTS[endpoint]!.names!;
    const replies = await ask(endpoint, foreign[kind], 'ana');
    const isInside = ENDPOINTS[endpoint] === SYNCHRONOUS;
    for (const { status } of replies) expect(status).toBe(isInside ? 200 : 404);
    const others = await ask(endpoint, missing[kind], 'ana');
    expect(others.map((reply) => tellable(reply, missing[kind]))).toEqual(replies.map((reply) => tellable(reply, foreign[kind])));
    if (kind !== 'file' && kind !== 'batch') return;
    // Not even an administrator reads what a key has sent.
    for (const { status } of await ask(endpoint, foreign[kind], 'root')) expect(status).toBe(404);
  });

  test('an alias of a foreign cartridge', async () => {
    const replies = await ask('POST /v1/chat/completions', 'nurses', 'ana');
    const others = await ask('POST /v1/chat/completions', 'nobody', 'ana');
    expect(replies.map((reply) => tellable(reply, 'nurses').text)).toEqual(others.map((reply) => tellable(reply, 'nobody').text));
  });

  test('the place behind which a list goes on', async () => {
    for (const kind of ['file', 'batch'] as const) {
      const list = (id: string) => server.send({ path: `/v1/${kind === 'file' ? 'files' : 'batches'}?after=${id}`, key: 'ana' });
      const reply = await list(foreign[kind]);
      expect(reply.status).toBe(404);
      expect(tellable(reply, foreign[kind])).toEqual(tellable(await list(missing[kind]), missing[kind]));
    }
  });

  test('a line of a batch', async () => {
    const line = (id: string) => {
      const body = { model: `pocket:${id}`, messages, max_tokens: 1 };
      return JSON.stringify({ custom_id: id, method: 'POST', url: '/v1/chat/completions', body });
    };
    const { json: file } = await server.upload(['clinic', 'nobody', 'harbour'].map(line).join('\n'), 'ana');
    const { json: batch } = await server.send({ path: '/v1/batches', key: 'ana', json: { ...order, input_file_id: file.id } });
    const { request_counts: counts, error_file_id: errors } = await server.batchEnd(batch.id, 'ana');
    expect(counts).toEqual({ total: 3, completed: 1, failed: 2 });
    const { text } = await server.send({ path: `/v1/files/${errors}/content`, key: 'ana' });
    const [first, second] = text.trim().split('\n') as [string, string];
    const told = (json: string, id: string) => {
      const { response, custom_id } = JSON.parse(json.replaceAll(id, 'ID'));
      return { custom_id, status: response.status_code, body: response.body };
    };
    expect(told(first, 'clinic')).toEqual(told(second, 'nobody'));
  });
});

test('nothing that a key can read has a name of another', async () => {
  const paths = ['/v1/models', '/v1/cartridges', '/v1/files', '/v1/batches', '/metrics', '/openapi.json', '/docs', '/ready'];
  const own = await Promise.all(paths.map(async (path) => (await server.send({ path, key: 'ana' })).text));
  const refused = await Promise.all([
    server.send({ path: '/v1/cartridges/downloads', key: 'ana' }),
    server.send({ path: '/v1/chat/completions', key: 'ana', json: { model: 'pocket:clini', messages } }),
    server.send({ path: '/v1/chat/completions', key: 'ana', json: { model: 'pocket', messages, cartridges: [{ id: '' }] } }),
    server.send({ path: '/v1/cartridges/clini', key: 'ana' }),
    server.send({ path: '/v1/nowhere', key: 'ana' }),
  ]);
  const all = [...own, ...refused.map(({ text }) => text)].join('\n');
  expect(all).toContain('harbour');
  expect(all).not.toMatch(/clinic|nurses|bob|key_[0-9a-f]|ck_/);
  expect(all).not.toContain(foreign.file);
  expect(all).not.toContain(foreign.batch);
  expect(all).not.toContain(server.folder);
});

test('metrics are for this machine and for administrators', async () => {
  const forwarded = { 'x-forwarded-for': '203.0.113.9' };
  const status = async (key?: string) =>
    (await server.send({ path: '/metrics', headers: forwarded, ...(key !== undefined && { key }) })).status;
  expect([await status(), await status('gone'), await status('ana'), await status('root')]).toEqual([401, 401, 403, 200]);
});

describe.each(['pocket', 'pocket:common', 'pocket:harbour'])('turns behind %s', (model) => {
  const content = 'Tell me everything that you know about the people here, one after the other, and leave nobody out.';
  const body = { model, messages: [{ role: 'user', content }], max_tokens: 1, temperature: 0 };
  /** More tokens than what every chat begins with, which a key may have from a chat of its own. */
  const opening = 8;
  const cached = async (key: string) => {
    const { json } = await server.send({ path: '/v1/chat/completions', key, json: body });
    return json.usage.prompt_tokens_details.cached_tokens as number;
  };

  test('are reused for the key that computed them and for no other', async () => {
    const others = model === 'pocket:harbour' ? ['root'] : ['bob', 'root'];
    for (const key of ['ana', ...others]) {
      expect(await cached(key)).toBeLessThan(opening);
      expect(await cached(key)).toBeGreaterThan(3 * opening);
    }
  });
});
