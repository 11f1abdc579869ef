import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { HubStandIn } from '../../../test/support/hub-stand-in.js';
import {
  ADMIN,
  BookkeepingEngine,
  callerOf,
  fileBytes,
  POCKET,
  pocketCartridge,
  refer,
  streamOf,
  temporaryFolder,
  twoFiles,
} from '../../../test/support/library-fixture.js';
import { WandbStandIn } from '../../../test/support/wandb-stand-in.js';
import { sha256 } from '../../core/hashing.js';
import type { CartridgeReference } from './cartridge-library.js';
import { type CartridgeLibraryOptions, openCartridgeLibrary, type ServedCartridges } from './open-cartridge-library.js';
import { hubSource } from './sources/hub-source.js';
import { wandbSource } from './sources/wandb-source.js';

const RETRY = { attempts: 2, delayMs: 1 };
const ID = 'org/model';
const ANYBODY = callerOf('anybody', 'all');
let first: Buffer;
let second: Buffer;
let hub: HubStandIn;
let wandb: WandbStandIn;
let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
let folder: string;
let engine: BookkeepingEngine;

beforeAll(async () => {
  [first, second] = await twoFiles();
});
beforeEach(async () => {
  temporary = await temporaryFolder();
  folder = join(temporary.path, 'library');
  hub = await HubStandIn.start({ 'README.md': Buffer.from('hello'), 'notes.cartridge.safetensors': first });
  wandb = await WandbStandIn.start();
  wandb.files.set('cartridge.safetensors', first);
  engine = new BookkeepingEngine();
});
afterEach(async () => {
  await hub.stop();
  await wandb.stop();
  expect(engine.mistakes).toEqual([]);
  await temporary.remove();
});

const open = (more: Partial<CartridgeLibraryOptions> = {}) => {
  const huggingface = hubSource({ endpoint: hub.endpoint, hosts: [], token: 'hf_secret', retry: RETRY });
  const options = { baseUrl: wandb.baseUrl, apiKey: 'wb_secret', entity: 'team', project: 'main', hosts: [], retry: RETRY };
  return openCartridgeLibrary({
    folder,
    engine,
    session: POCKET,
    sources: { huggingface, wandb: wandbSource(options) },
    ...more,
  });
};
const fromHub = (more: Partial<CartridgeReference> = {}) => refer(ID, { source: 'huggingface', ...more });
const hold = (library: ServedCartridges, reference: CartridgeReference, signal?: AbortSignal) =>
  library.hold([reference], ANYBODY, signal);
const fetches = () => hub.requests.filter(({ line }) => line.includes('/resolve/')).length;
const leftovers = async () => (await readdir(join(folder, '.downloads'))).length;
const failureOf = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error) => error,
  );

/** Sends the head and some bytes of each file, and no more. */
function stall(): void {
  hub.intercept = (request, response) => {
    if (!request.url?.includes('/resolve/')) return false;
    response.writeHead(200, { 'content-length': first.length }).write(first.subarray(0, 1000));
    return true;
  };
}

describe('a download', () => {
  it('happens once for all requests that need it, and is kept', async () => {
    const library = await open();
    const held = await Promise.all([1, 2, 3].map(() => hold(library, fromHub())));
    expect(fetches()).toBe(1);
    expect(new Set(held.map(({ handles }) => handles[0])).size).toBe(1);
    expect(library.get(ID)).toMatchObject({ sha256: sha256(first) });
    expect(library.downloads.list()).toMatchObject([
      { id: ID, source: 'huggingface', state: 'done', receivedBytes: first.length, totalBytes: first.length },
    ]);
    expect(await leftovers()).toBe(0);
    const again = await open({ engine: new BookkeepingEngine(), sources: {} });
    await hold(again, fromHub());
    expect(fetches()).toBe(1);
  });

  it('is done again once when it is forced, and does not disturb who uses the old one', async () => {
    const library = await open();
    const old = await hold(library, fromHub());
    hub.files.set('notes.cartridge.safetensors', second);
    const before = fetches();
    const renewed = await Promise.all([1, 2, 3].map(() => hold(library, fromHub({ forceRedownload: true }))));
    expect(fetches() - before).toBe(1);
    expect(await engine.firstKey(old.handles[0])).toBe(pocketCartridge(1).keys[0]![0]);
    for (const { handles } of renewed) expect(await engine.firstKey(handles[0])).toBe(pocketCartridge(2).keys[0]![0]);
    old.release();
    await library.close();
    expect(engine.known.size).toBe(1);
  });

  it('that fails leaves the old one', async () => {
    const library = await open();
    await hold(library, fromHub());
    const refused: [Buffer, number, RegExp][] = [
      [Buffer.from('no cartridge'), 400, /not a usable/],
      [await fileBytes({ ...pocketCartridge(3), framing: { name: 'x', hash: 'a'.repeat(64) } }), 400, /framing/],
    ];
    for (const [bytes, status, message] of refused) {
      hub.files.set('notes.cartridge.safetensors', bytes);
      const failure = await failureOf(hold(library, fromHub({ forceRedownload: true })));
      expect(failure).toMatchObject({ status, message: expect.stringMatching(message) });
      expect(failure.message).not.toContain(folder);
    }
    hub.files.delete('notes.cartridge.safetensors');
    expect(await failureOf(hold(library, fromHub({ forceRedownload: true })))).toMatchObject({
      status: 502,
      message: /has no cartridge/,
    });
    expect(library.downloads.get(ID)).toMatchObject({ state: 'failed', message: /has no cartridge/ });
    expect((await hold(library, fromHub())).tokenCount).toBe(4);
  });

  it('needs the right to the id before anything is asked of the source', async () => {
    const library = await open();
    const stranger = callerOf('stranger', ['other']);
    await expect(library.hold([fromHub()], stranger)).rejects.toMatchObject({ status: 404 });
    await expect(library.hold([fromHub({ id: '../../etc' })], ANYBODY)).rejects.toMatchObject({ status: 404 });
    await expect(library.hold([fromHub({ id: 'no-organisation' })], ANYBODY)).rejects.toMatchObject({ status: 400 });
    expect(hub.requests).toEqual([]);
    const closed = await open({ engine: new BookkeepingEngine(), sources: { local: true } });
    await expect(hold(closed, fromHub())).rejects.toMatchObject({ status: 400, message: /huggingface/ });
  });

  it('cannot replace what was uploaded', async () => {
    const library = await open();
    await library.upload({ id: ID, stream: streamOf(second), replace: false }, ADMIN);
    await expect(hold(library, fromHub({ forceRedownload: true }))).rejects.toMatchObject({
      status: 400,
      message: /did not come/,
    });
    expect(() => library.startDownload(ID, 'huggingface', ADMIN, false)).toThrow(expect.objectContaining({ status: 409 }));
    expect(library.get(ID).sha256).toBe(sha256(second));
    expect(hub.requests).toEqual([]);
  });

  it('goes on when a request that waits for it is gone, and shows how far it is', async () => {
    const library = await open();
    stall();
    const controller = new AbortController();
    const waiting = hold(library, fromHub(), controller.signal);
    await expect.poll(() => library.downloads.get(ID)?.receivedBytes).toBe(1000);
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(library.downloads.get(ID)).toMatchObject({ state: 'running', totalBytes: first.length });
    expect(() => library.startDownload(ID, 'wandb', ADMIN, true)).toThrow(expect.objectContaining({ status: 409 }));
    await library.close();
  });

  it('can be cancelled, for all who wait, and leaves nothing', async () => {
    const library = await open();
    stall();
    const waiting = failureOf(hold(library, fromHub()));
    await expect.poll(() => library.downloads.get(ID)?.receivedBytes).toBe(1000);
    expect(await library.downloads.cancel(ID)).toBe(true);
    expect(await waiting).toMatchObject({ status: 503, message: /cancelled/ });
    expect(library.downloads.get(ID)).toMatchObject({ state: 'cancelled' });
    expect(await library.downloads.cancel(ID)).toBe(false);
    expect(await leftovers()).toBe(0);
  });

  it('is bounded in size, time and number', async () => {
    const small = await open({ limits: { maxFileBytes: 100 } });
    expect(await failureOf(hold(small, fromHub()))).toMatchObject({ status: 502, message: /more than the 100 B/ });
    expect(fetches()).toBe(0);
    stall();
    const slow = await open({ limits: { downloadSeconds: 0.2, maxDownloads: 1 } });
    const waiting = failureOf(hold(slow, fromHub()));
    await expect(hold(slow, refer('org/other', { source: 'huggingface' }))).rejects.toMatchObject({ status: 429 });
    expect(await waiting).toMatchObject({ status: 502, message: /more than 0.2 seconds/ });
  });

  it('continues where an interrupted one stopped', async () => {
    const library = await open({ limits: { downloadSeconds: 0.2 } });
    stall();
    await failureOf(hold(library, fromHub()));
    expect(await leftovers()).toBe(1);
    hub.intercept = () => false;
    const again = await open({ engine: new BookkeepingEngine() });
    await hold(again, fromHub());
    expect(hub.requests.at(-1)).toMatchObject({ range: 'bytes=1000-', authorization: 'Bearer hf_secret' });
    expect(await leftovers()).toBe(0);
  });
});

describe('a download from the hub', () => {
  it('does not follow a redirect to another host', async () => {
    const library = await open();
    const elsewhere = await HubStandIn.start({ 'notes.cartridge.safetensors': first });
    hub.intercept = (request, response) => {
      if (!request.url?.includes('/resolve/')) return false;
      response.writeHead(302, { location: `${elsewhere.endpoint}/storage/notes.cartridge.safetensors` }).end();
      return true;
    };
    expect(await failureOf(hold(library, fromHub()))).toMatchObject({ status: 502, message: /may come from/ });
    expect(elsewhere.requests).toEqual([]);
    await elsewhere.stop();
  });

  it('says what to do with a cartridge of the Python original, and with two', async () => {
    const library = await open();
    hub.files.set('other.cartridge.safetensors', second);
    expect(await failureOf(hold(library, fromHub()))).toMatchObject({ message: /2 files/ });
    hub.files.clear();
    hub.files.set('cache-step512.pt', second);
    expect(await failureOf(hold(library, fromHub()))).toMatchObject({ hint: expect.stringContaining('cartridges import') });
  });
});

describe('a download from Weights & Biases', () => {
  const reference = refer('notes', { source: 'wandb' });

  it('asks the API with the key, and takes the bytes from the signed address without it', async () => {
    const library = await open();
    const held = await hold(library, reference);
    expect(await engine.firstKey(held.handles[0])).toBe(pocketCartridge(1).keys[0]![0]);
    const basic = `Basic ${Buffer.from('api:wb_secret').toString('base64')}`;
    expect(wandb.requests).toEqual([
      {
        line: 'POST /graphql',
        authorization: basic,
        variables: { entity: 'team', project: 'main', artifact: 'notes:latest' },
      },
      { line: 'GET /signed/cartridge.safetensors?signature=secret', authorization: undefined, variables: undefined },
    ]);
  });

  it('looks into another project of the same entity by project/name', async () => {
    const library = await open();
    await hold(library, refer('main/notes', { source: 'wandb' }));
    expect(await failureOf(hold(library, refer('other/notes', { source: 'wandb' })))).toMatchObject({ status: 502 });
    expect(wandb.requests.at(-1)).toMatchObject({ variables: { project: 'other' } });
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    ['another hash', { md5: Buffer.alloc(16).toString('base64') }, /damaged/],
    ['a foreign host', { directUrl: 'http://127.0.0.1:1/x' }, /may come from/],
    ['another scheme', { directUrl: 'file:///etc/passwd' }, /may come from/],
    ['a name that leaves its folder', { name: '../../cartridge.safetensors' }, /plain path/],
    ['no size', { sizeBytes: -1 }, /cannot be used/],
  ])('refuses %s', async (_what, change, message) => {
    const library = await open();
    wandb.describe = (file) => ({ ...file, ...change });
    expect(await failureOf(hold(library, reference))).toMatchObject({ status: 502, message: expect.stringMatching(message) });
    expect(library.all()).toEqual([]);
  });

  it('tries again when the API is busy, and gives up on another refusal', async () => {
    const library = await open();
    let busy = 1;
    wandb.intercept = (_request, response) => {
      if (busy-- <= 0) return false;
      response.writeHead(503).end();
      return true;
    };
    await hold(library, reference);
    wandb.intercept = (_request, response) => {
      response.writeHead(401).end();
      return true;
    };
    const failure = await failureOf(hold(library, { ...reference, forceRedownload: true }));
    expect(failure).toMatchObject({ status: 502, hint: expect.stringContaining('WANDB_API_KEY') });
    expect(JSON.stringify(failure)).not.toContain('wb_secret');
  });
});
