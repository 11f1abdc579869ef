import { join } from 'node:path';
import type { OpenAPIHono } from '@hono/zod-openapi';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { HubStandIn } from '../../../test/support/hub-stand-in.js';
import {
  ADMIN,
  BookkeepingEngine,
  callerOf,
  POCKET,
  refer,
  temporaryFolder,
  twoFiles,
} from '../../../test/support/library-fixture.js';
import { sha256 } from '../../core/hashing.js';
import type { Caller } from '../caller.js';
import { createRouter } from '../router.js';
import type { ServerEnv } from '../server-env.js';
import { cartridgeAdminRoutes } from './admin-routes.js';
import { openCartridgeLibrary, type ServedCartridges } from './open-cartridge-library.js';
import { hubSource } from './sources/hub-source.js';

const TEAM = callerOf('team', ['org/model']);
let first: Buffer;
let second: Buffer;
let hub: HubStandIn;
let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
let engine: BookkeepingEngine;
let library: ServedCartridges;

beforeAll(async () => {
  [first, second] = await twoFiles();
});
beforeEach(async () => {
  temporary = await temporaryFolder();
  hub = await HubStandIn.start({ 'cartridge.safetensors': first });
  engine = new BookkeepingEngine();
  const sources = { huggingface: hubSource({ endpoint: hub.endpoint, hosts: [], retry: { attempts: 1, delayMs: 1 } }) };
  library = await openCartridgeLibrary({ folder: join(temporary.path, 'l'), engine, session: POCKET, sources });
});
afterEach(async () => {
  await library.close();
  await hub.stop();
  await temporary.remove();
});

function appFor(caller: Caller): OpenAPIHono<ServerEnv> {
  const app = createRouter();
  app.use(async (context, next) => {
    context.set('caller', caller);
    await next();
  });
  app.route('/', cartridgeAdminRoutes(library));
  return app;
}

interface Answer {
  status: number;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of many shapes
  body: any;
}

async function ask(method: string, path: string, init: RequestInit = {}, caller: Caller = ADMIN): Promise<Answer> {
  const response = await appFor(caller).request(path, { method, ...init });
  return { status: response.status, body: await response.json() };
}

const FILE = { 'content-type': 'application/octet-stream' };
const upload = (query: string, body: Uint8Array = first, headers: Record<string, string> = {}) =>
  ask('POST', `/v1/cartridges?${query}`, { body, headers: { ...FILE, ...headers } });
const startDownload = (body: unknown) =>
  ask('POST', '/v1/cartridges/downloads', { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });

describe('/v1/cartridges', () => {
  it('takes a cartridge in, shows it, and lets it go', async () => {
    const uploaded = await upload(`id=org/notes&sha256=${sha256(first)}`, first, { 'content-length': String(first.length) });
    const entry = {
      object: 'cartridge',
      id: 'org/notes',
      aliases: [],
      token_count: 4,
      bytes: first.length,
      sha256: sha256(first),
    };
    expect(uploaded).toEqual({ status: 201, body: { ...entry, created_at: expect.any(Number) } });
    expect((await ask('GET', '/v1/cartridges')).body).toEqual({ object: 'list', data: [uploaded.body] });
    const held = await library.hold([refer('org/notes')], ADMIN);
    const details = await ask('GET', '/v1/cartridges/org%2Fnotes');
    expect(details.body).toMatchObject({
      ...entry,
      source: 'upload',
      owner: 'admin',
      resident: false,
      holders: 1,
      stored_as: 'f32',
    });
    expect(details.body.receipt).toEqual({ createdBy: 'a test', createdAt: '2025-01-01T00:00:00.000Z', initializer: 'random' });
    held.release();
    const deleted = await ask('DELETE', '/v1/cartridges/org%2Fnotes');
    expect(deleted).toEqual({ status: 200, body: { object: 'cartridge', id: 'org/notes', deleted: true } });
    expect((await ask('GET', '/v1/cartridges/org%2Fnotes')).status).toBe(404);
  });

  it('replaces, reloads, loads, unloads and renames', async () => {
    await upload('id=notes');
    expect((await upload('id=notes', second)).status).toBe(409);
    expect((await upload('id=notes&replace=true', second)).body).toMatchObject({ sha256: sha256(second) });
    expect((await ask('POST', '/v1/cartridges/notes/load')).status).toBe(200);
    expect((await ask('GET', '/v1/cartridges/notes')).body.resident).toBe(true);
    expect((await ask('POST', '/v1/cartridges/notes/unload')).status).toBe(200);
    expect((await ask('GET', '/v1/cartridges/notes')).body.resident).toBe(false);
    expect((await ask('POST', '/v1/cartridges/notes/reload')).status).toBe(200);
    expect((await ask('PUT', '/v1/cartridges/notes/aliases/org%2Flatest')).body.aliases).toEqual(['org/latest']);
    expect((await ask('GET', '/v1/cartridges/org%2Flatest')).body.id).toBe('notes');
    expect((await ask('DELETE', '/v1/cartridges/notes/aliases/org%2Flatest')).body).toMatchObject({ deleted: true });
    expect((await ask('GET', '/v1/cartridges/org%2Flatest')).status).toBe(404);
  });

  it.each<[string, () => Promise<Answer>, number, string | null]>([
    ['no id', () => upload(''), 400, 'id'],
    ['an id that leaves the folder', () => upload('id=..%2F..%2Fx'), 400, 'id'],
    ['an id in a path that leaves the folder', () => ask('GET', '/v1/cartridges/..%2F..%2Fetc'), 400, 'id'],
    ['an id that is encoded twice', () => ask('GET', '/v1/cartridges/org%252Fnotes'), 400, 'id'],
    ['an unknown field', () => upload('id=x&force=true'), 400, 'force'],
    ['a hash that is none', () => upload('id=x&sha256=abc'), 400, 'sha256'],
    ['another hash', () => upload(`id=x&sha256=${sha256(second)}`), 400, 'sha256'],
    ['a length that is a lie', () => upload('id=x', first, { 'content-length': '17' }), 400, null],
    ['a length beyond the limit', () => upload('id=x', first, { 'content-length': String(2 ** 40) }), 413, null],
    ['another media type', () => upload('id=x', first, { 'content-type': 'application/json' }), 400, 'body'],
    ['no body', () => ask('POST', '/v1/cartridges?id=x', { headers: FILE }), 400, 'body'],
    [
      'a field of a download that is unknown',
      () => startDownload({ id: 'org/model', source: 'wandb', url: 'http://x' }),
      400,
      'url',
    ],
    ['a source that is not allowed', () => startDownload({ id: 'org/model', source: 'wandb' }), 400, null],
    ['a source that is none', () => startDownload({ id: 'org/model', source: 'local' }), 400, 'source'],
  ])('refuses %s', async (_what, send, status, param) => {
    const answer = await send();
    expect(answer).toMatchObject({ status, body: { error: { param } } });
    expect(library.all()).toEqual([]);
    expect(hub.requests).toEqual([]);
  });
});

describe('/v1/cartridges/downloads', () => {
  it('starts, shows and ends a download', async () => {
    const started = await startDownload({ id: 'org/model', source: 'huggingface' });
    expect(started).toMatchObject({ status: 202, body: { object: 'cartridge.download', state: 'running', finished_at: null } });
    await expect.poll(async () => (await ask('GET', '/v1/cartridges/downloads/org%2Fmodel')).body.state).toBe('done');
    expect((await ask('GET', '/v1/cartridges/downloads')).body.data).toMatchObject([
      { id: 'org/model', received_bytes: first.length },
    ]);
    expect((await startDownload({ id: 'org/model', source: 'huggingface' })).status).toBe(409);
    hub.intercept = () => true;
    expect((await startDownload({ id: 'org/model', source: 'huggingface', force_redownload: true })).status).toBe(202);
    expect((await ask('DELETE', '/v1/cartridges/downloads/org%2Fmodel')).body).toMatchObject({ state: 'cancelled' });
    expect((await ask('GET', '/v1/cartridges/org%2Fmodel')).status).toBe(200);
    expect((await ask('DELETE', '/v1/cartridges/downloads/nothing')).status).toBe(404);
  });
});

describe('who may administer', () => {
  /** Every operation that the document lists, with what stands for its parameters. */
  const operations = (id: string): [string, string][] => {
    const document = cartridgeAdminRoutes(library).getOpenAPI31Document({ openapi: '3.1.0', info: { title: 't', version: '1' } });
    return Object.entries(document.paths ?? {}).flatMap(([path, methods]) =>
      Object.keys(methods).map((method): [string, string] => [
        method.toUpperCase(),
        path.replaceAll(/\{\w+\}/g, encodeURIComponent(id)),
      ]),
    );
  };

  it('answers a key that may not the same for what exists, what does not, and what cannot', async () => {
    await upload('id=org/model');
    await upload('id=secret', second);
    for (const caller of [TEAM, callerOf('nobody', [])]) {
      const answers = ['org/model', 'secret', 'nothing', '../x'].map(async (id) =>
        Promise.all(
          operations(id)
            .filter(([method, path]) => `${method} ${path}` !== 'GET /v1/cartridges')
            .map(([method, path]) => ask(method, path, {}, caller)),
        ),
      );
      const all = (await Promise.all(answers)).flat();
      expect(all).toHaveLength(4 * 12);
      expect(new Set(all.map((answer) => JSON.stringify(answer))).size).toBe(1);
      expect(all[0]!.status).toBe(403);
    }
    expect(library.all()).toHaveLength(2);
  });

  it('lists to everybody what the key may use, and to administrators all', async () => {
    await upload('id=org/model');
    await upload('id=secret', second);
    const idsFor = async (caller: Caller) =>
      (await ask('GET', '/v1/cartridges', {}, caller)).body.data.map(({ id }: { id: string }) => id);
    expect(await idsFor(TEAM)).toEqual(['org/model']);
    expect(await idsFor(callerOf('nobody', []))).toEqual([]);
    expect(await idsFor(callerOf('operator', [], true))).toEqual(['org/model', 'secret']);
  });
});
