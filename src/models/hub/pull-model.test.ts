import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { gitSha1, HubStandIn, STAND_IN_COMMIT, sendBytes, sendJson, sha256Of } from '../../../test/support/hub-stand-in.js';
import type { ProgressEvent } from '../../core/progress.js';
import { type PullOptions, pullModel } from './pull-model.js';
import { listModels, resolveModel } from './resolve-model.js';

const small = Buffer.from('{"a": 1}\n');
const model = randomBytes(300_000);
const other = randomBytes(1000);

let hub: HubStandIn;
let cacheFolder: string;
let events: ProgressEvent[];

beforeEach(async () => {
  hub = await HubStandIn.start({ 'config.json': small, 'model-Q8_0.gguf': model, 'model-Q4_K_M.gguf': other });
  cacheFolder = await mkdtemp(join(tmpdir(), 'cartridges-hub-'));
  events = [];
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
  await rm(cacheFolder, { recursive: true, force: true });
});

const pull = (options: Partial<PullOptions> = {}) =>
  pullModel({
    repo: 'org/model',
    endpoint: hub.endpoint,
    cacheFolder,
    retry: { attempts: 3, delayMs: 1 },
    onProgress: (event) => events.push(event),
    ...options,
  });

const repoFolder = () => join(cacheFolder, 'models--org--model');
const blobPath = (bytes: Buffer) => join(repoFolder(), 'blobs', sha256Of(bytes));
const isStorage = (url: string | undefined) => url?.startsWith('/storage/');

describe('pullModel', () => {
  it('puts the preferred quantisation into the standard cache and says which', async () => {
    const pulled = await pull();
    expect(pulled).toMatchObject({ file: 'model-Q8_0.gguf', commit: STAND_IN_COMMIT, cached: false, sizeBytes: model.length });
    expect(pulled.alternatives).toEqual(['model-Q4_K_M.gguf']);
    expect(model.equals(await readFile(pulled.path))).toBe(true);
    expect(await readlink(pulled.path)).toBe(join('..', '..', 'blobs', sha256Of(model)));
    expect(await readFile(join(repoFolder(), 'refs', 'main'), 'utf8')).toBe(STAND_IN_COMMIT);
    expect(events.find((event) => event.kind === 'note')).toMatchObject({ message: expect.stringContaining('model-Q8_0.gguf') });
    expect(events.at(-1)).toMatchObject({ kind: 'end', stage: 'download' });
  });

  it('takes hub and cache from the environment, where resolveModel finds the model, and no token', async () => {
    vi.stubEnv('HF_ENDPOINT', hub.endpoint);
    vi.stubEnv('HF_HUB_CACHE', cacheFolder);
    vi.stubEnv('HF_TOKEN', 'hf_secret');
    const { path } = await pullModel({ repo: 'org/model' });
    expect(await resolveModel('org/model')).toBe(path);
    expect(path.startsWith(cacheFolder)).toBe(true);
    expect(new Set(hub.requests.map(({ authorization }) => authorization))).toEqual(new Set([undefined]));
  });

  it('does not download again what is there', async () => {
    await pull();
    hub.requests.length = 0;
    expect(await pull()).toMatchObject({ cached: true });
    expect(hub.requests.filter(({ line }) => line.includes('resolve'))).toEqual([]);
  });

  it('takes a file by a part of its name, and checks a small file by its git hash', async () => {
    expect((await pull({ file: 'q4_k_m' })).file).toBe('model-Q4_K_M.gguf');
    const pulled = await pull({ file: 'config.json' });
    expect(await readlink(pulled.path)).toContain(gitSha1(small));
  });

  it('continues an interrupted download where it stopped', async () => {
    const controller = new AbortController();
    hub.intercept = (request, response) => {
      if (!isStorage(request.url)) return false;
      response.writeHead(200, { 'content-length': model.length }).write(model.subarray(0, 100_000));
      return true;
    };
    const onProgress = (event: ProgressEvent) => event.kind === 'progress' && event.done === 100_000 && controller.abort();
    await expect(pull({ signal: controller.signal, onProgress })).rejects.toMatchObject({ code: 'CANCELLED' });
    expect((await readFile(`${blobPath(model)}.incomplete`)).length).toBe(100_000);

    hub.intercept = () => false;
    const pulled = await pull();
    expect(hub.requests.find(({ line, range }) => isStorage(line.slice(4)) && range)?.range).toBe('bytes=100000-');
    expect(model.equals(await readFile(pulled.path))).toBe(true);
    expect(existsSync(`${blobPath(model)}.incomplete`)).toBe(false);
  });

  it('continues by itself when the connection breaks, and starts over when the server ignores the range', async () => {
    let breaks = 0;
    hub.intercept = (request, response) => {
      if (!isStorage(request.url) || breaks >= 2) return false;
      breaks += 1;
      // The second answer ignores the range: status 200, all bytes from the first on.
      response.writeHead(200, { 'content-length': model.length });
      response.write(model.subarray(0, 50_000 * breaks), () => response.destroy());
      return true;
    };
    expect(model.equals(await readFile((await pull()).path))).toBe(true);
    expect(events.filter((event) => event.kind === 'warning').length).toBe(2);
  });

  it('tries again after a busy server, but not for ever', async () => {
    let busy = 2;
    hub.intercept = (_request, response) => {
      if (busy-- <= 0) return false;
      response.writeHead(503, { 'retry-after': '0' }).end();
      return true;
    };
    await pull();
    busy = Number.POSITIVE_INFINITY;
    hub.requests.length = 0;
    await expect(pull()).rejects.toMatchObject({ code: 'DOWNLOAD_FAILED', message: expect.stringContaining('tried 3 times') });
    expect(hub.requests.length).toBe(3);
  });

  it('deletes bytes with a wrong hash and keeps the cache clean', async () => {
    const damaged = Buffer.from(model);
    damaged[7] = (damaged[7] as number) ^ 1;
    hub.intercept = (request, response) => {
      if (!isStorage(request.url)) return false;
      sendBytes(response, damaged, request.headers.range);
      return true;
    };
    await expect(pull()).rejects.toMatchObject({ code: 'DOWNLOAD_FAILED', message: expect.stringContaining('damaged') });
    expect(await readdir(join(repoFolder(), 'blobs'))).toEqual([]);
    expect(existsSync(join(repoFolder(), 'snapshots'))).toBe(false);
  });

  it('refuses a server that announces another hash, or sends too much', async () => {
    hub.intercept = (request, response) => {
      if (!request.url?.includes('/resolve/')) return false;
      response.writeHead(302, { location: '/storage/model-Q8_0.gguf', 'x-linked-etag': `"${'0'.repeat(64)}"` }).end();
      return true;
    };
    await expect(pull()).rejects.toMatchObject({ message: expect.stringContaining('another hash') });
    hub.intercept = (request, response) => {
      if (!isStorage(request.url)) return false;
      response.writeHead(200).end(Buffer.concat([model, small]));
      return true;
    };
    await expect(pull()).rejects.toMatchObject({ message: expect.stringContaining('more than the 300000 bytes') });
  });

  it('sends the token to the hub and not to the host it redirects to', async () => {
    const storage = await HubStandIn.start({ 'model-Q8_0.gguf': model });
    hub.storage = storage.endpoint;
    await pull({ token: 'hf_secret' });
    await storage.stop();
    expect(new Set(hub.requests.map(({ authorization }) => authorization))).toEqual(new Set(['Bearer hf_secret']));
    expect(storage.requests.map(({ authorization }) => authorization)).toEqual([undefined]);
  });

  it.each([
    [404, 'does not exist', 'check the name'],
    [401, 'refused access', 'HF_TOKEN'],
    [403, 'refused access', 'HF_TOKEN'],
    [418, 'answered 418', undefined],
  ])('explains status %i at once', async (status, message, hint) => {
    hub.intercept = (_request, response) => {
      response.writeHead(status).end();
      return true;
    };
    const error = await pull().catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'DOWNLOAD_FAILED', message: expect.stringContaining(message) });
    if (hint) expect(error.hint).toContain(hint);
    expect(hub.requests.length).toBe(1);
  });

  it('says when the hub cannot be reached', async () => {
    const gone = await HubStandIn.start();
    const { endpoint } = gone;
    await gone.stop();
    await expect(pull({ endpoint })).rejects.toMatchObject({
      code: 'DOWNLOAD_FAILED',
      hint: expect.stringContaining('connection'),
    });
  });

  it.each(['../../evil.gguf', '/etc/evil.gguf', 'a\\..\\evil.gguf', 'C:evil.gguf', 'a//b.gguf'])(
    'refuses the file name %j',
    async (path) => {
      hub.files.set(path, other);
      await expect(pull()).rejects.toMatchObject({ code: 'DOWNLOAD_FAILED', message: expect.stringContaining('plain path') });
      expect(existsSync(repoFolder())).toBe(false);
    },
  );

  it('refuses a hash that is not one, because it becomes a file name', async () => {
    hub.intercept = (request, response) => {
      if (!request.url?.includes('/tree/')) return false;
      sendJson(response, [{ type: 'file', path: 'm.gguf', size: 3, oid: '../../../evil' }]);
      return true;
    };
    await expect(pull()).rejects.toMatchObject({ code: 'DOWNLOAD_FAILED', message: expect.stringContaining('no hash') });
  });

  it('follows the pages of a long listing', async () => {
    const entry = (path: string, bytes: Buffer) => ({ type: 'file', path, size: bytes.length, oid: gitSha1(bytes) });
    hub.intercept = (request, response) => {
      if (!request.url?.includes('/tree/')) return false;
      if (request.url.includes('cursor=2')) sendJson(response, [entry('model-Q8_0.gguf', model)]);
      else sendJson(response, [entry('config.json', small)], { link: `<${hub.endpoint}${request.url}&cursor=2>; rel="next"` });
      return true;
    };
    expect((await pull()).file).toBe('model-Q8_0.gguf');
  });

  it.each(['model', 'org/../model', 'org/mo--del', 'https://host/org/model'])('refuses the repository name %j', async (repo) => {
    await expect(pull({ repo })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
  });
});

describe('two pulls of one file', () => {
  const HALF = 150_000;
  const lockPath = () => `${blobPath(model)}.incomplete.lock`;
  const storageRequests = () => hub.requests.filter(({ line }) => isStorage(line.slice(4)));

  /** Sends half of the model to the first request for it; the rest when told. */
  function holdFirstDownload(): () => void {
    let rest: (() => void) | undefined;
    hub.intercept = (request, response) => {
      if (!isStorage(request.url) || rest) return false;
      response.writeHead(200, { 'content-length': model.length }).write(model.subarray(0, HALF));
      rest = () => response.end(model.subarray(HALF));
      return true;
    };
    return () => rest?.();
  }

  const halfOf = (event: ProgressEvent) => event.kind === 'progress' && event.done === HALF;
  const isWaiting = (event: ProgressEvent) => event.kind === 'note' && event.message.includes('waiting for it');

  it('download it once: the second waits for the first and takes what it brought', async () => {
    const finish = holdFirstDownload();
    const first = pull();
    await expect.poll(() => events.some(halfOf)).toBe(true);
    const second = pull();
    await expect.poll(() => events.some(isWaiting) || storageRequests().length > 1).toBe(true);
    finish();
    for (const { path } of await Promise.all([first, second])) expect(model.equals(await readFile(path))).toBe(true);
    expect(storageRequests()).toHaveLength(1);
    expect(await readdir(join(repoFolder(), 'blobs'))).toEqual([sha256Of(model)]);
    expect(await readdir(join(repoFolder(), 'snapshots', STAND_IN_COMMIT))).toEqual(['model-Q8_0.gguf']);
  });

  it('go on where the first one stops, when it fails', async () => {
    const finish = holdFirstDownload();
    const controller = new AbortController();
    const first = pull({ signal: controller.signal });
    await expect.poll(() => events.some(halfOf)).toBe(true);
    const second = pull();
    await expect.poll(() => events.some(isWaiting)).toBe(true);
    controller.abort();
    await expect(first).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(model.equals(await readFile((await second).path))).toBe(true);
    expect(storageRequests().at(-1)?.range).toBe(`bytes=${HALF}-`);
    finish();
  });

  it('can be ended while they wait', async () => {
    await mkdir(dirname(lockPath()), { recursive: true });
    await writeFile(lockPath(), `${process.pid}\n`);
    const controller = new AbortController();
    const onProgress = (event: ProgressEvent) => isWaiting(event) && controller.abort();
    await expect(pull({ signal: controller.signal, onProgress })).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(await readFile(lockPath(), 'utf8')).toBe(`${process.pid}\n`);
  });

  it('do not wait for a process that was killed', async () => {
    await mkdir(dirname(lockPath()), { recursive: true });
    await writeFile(lockPath(), `${process.pid} another-boot 1\n`);
    expect(model.equals(await readFile((await pull()).path))).toBe(true);
    expect(existsSync(lockPath())).toBe(false);
  });

  it('link it at the same time', async () => {
    await pull();
    const paths = (await Promise.all(Array.from({ length: 20 }, () => pull()))).map(({ path }) => path);
    expect(new Set(paths).size).toBe(1);
    expect(await readlink(paths[0] as string)).toBe(join('..', '..', 'blobs', sha256Of(model)));
  });
});

describe('resolveModel and listModels', () => {
  it('find what was pulled, whole or by a part of the file name', async () => {
    const { path } = await pull();
    const q4 = await pull({ file: 'Q4' });
    expect(await resolveModel('org/model', cacheFolder)).toBe(path);
    expect(await resolveModel('org/model:q4', cacheFolder)).toBe(q4.path);
    const models = await listModels(cacheFolder);
    expect(models.map(({ name }) => name)).toEqual(['pocket', 'org/model:model-Q4_K_M.gguf', 'org/model:model-Q8_0.gguf']);
    expect(models[2]?.sizeBytes).toBe(model.length);
  });

  it('takes a path as it is and knows the pocket model', async () => {
    const path = join(cacheFolder, 'mine.gguf');
    await writeFile(path, other);
    expect(await resolveModel(path, cacheFolder)).toBe(path);
    expect(existsSync(await resolveModel('pocket', cacheFolder))).toBe(true);
  });

  it('takes the model in a folder, of several the one that it would take of a repository', async () => {
    const folder = join(cacheFolder, 'models');
    await mkdir(folder);
    await expect(resolveModel(folder, cacheFolder)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    for (const name of ['a-Q4_0.gguf', 'mmproj-Q8_0.gguf', 'notes.txt']) await writeFile(join(folder, name), other);
    expect(await resolveModel(folder, cacheFolder)).toBe(join(folder, 'a-Q4_0.gguf'));
    await writeFile(join(folder, 'a-Q8_0.gguf'), other);
    expect(await resolveModel(folder, cacheFolder)).toBe(join(folder, 'a-Q8_0.gguf'));
  });

  it('says how to get a model that is missing', async () => {
    await expect(resolveModel('org/model:Q8_0', cacheFolder)).rejects.toMatchObject({
      code: 'FILE_NOT_FOUND',
      hint: 'cartridges models pull org/model Q8_0',
    });
    await expect(resolveModel('models/nothing.gguf', cacheFolder)).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
  });

  it('leaves out files between the folders of the cache', async () => {
    const { path } = await pull();
    for (const folder of [cacheFolder, repoFolder(), join(repoFolder(), 'snapshots'), dirname(path)]) {
      await writeFile(join(folder, '.DS_Store'), '');
    }
    await writeFile(join(cacheFolder, 'models--org--file'), '');
    expect((await listModels(cacheFolder)).map(({ name }) => name)).toEqual(['pocket', 'org/model:model-Q8_0.gguf']);
    expect(await resolveModel('org/model', cacheFolder)).toBe(path);
  });

  it('leaves out a link whose bytes were deleted', async () => {
    await pull();
    await rm(blobPath(model));
    expect((await listModels(cacheFolder)).map(({ name }) => name)).toEqual(['pocket']);
  });
});
