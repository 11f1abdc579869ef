import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { removeFolder, TestApi, temporaryFolder, until } from '../../../test/support/batch-fixture.js';
import { CartridgesError } from '../../core/errors.js';
import { RecordFolder } from './record-folder.js';

let folder: string;
let api: TestApi;
beforeEach(async () => {
  folder = await temporaryFolder();
  api = await TestApi.open({ folder });
});
afterEach(async () => {
  vi.restoreAllMocks();
  await api.close();
  await removeFolder(folder);
});

async function reopen(options: Partial<Parameters<typeof TestApi.open>[0]>): Promise<void> {
  await api.close();
  api = await TestApi.open({ folder, ...options });
}

const BOUNDARY = 'multipart/form-data; boundary=b';
const FILE_HEAD = '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n';

/** A form whose file never ends, and how much was taken of it. */
function endlessUpload() {
  let sent = 0;
  let isCut = false;
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(Buffer.from(FILE_HEAD)),
    pull(controller) {
      sent += 10_000;
      controller.enqueue(new Uint8Array(10_000).fill(0x61));
    },
    cancel() {
      isCut = true;
    },
  });
  return { body, sent: () => sent, isCut: () => isCut };
}

function sendForm(body: string | ReadableStream<Uint8Array>, scope = 'alice') {
  return api.call('POST', '/v1/files', { scope, body, headers: { 'content-type': BOUNDARY }, duplex: 'half' } as object);
}

/** Names of all files on the disk. */
async function filesOnDisk(): Promise<string[]> {
  return (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map(({ name }) => name);
}

describe('uploads', () => {
  it('give the bytes back, also after a restart', async () => {
    const bytes = Uint8Array.from({ length: 300_000 }, (_, index) => (index * 7919) >> 3);
    const { status, json } = await api.upload(bytes, { filename: 'data.bin', purpose: 'user_data' });
    expect(status).toBe(200);
    expect(json).toEqual({
      id: expect.stringMatching(/^file-[0-9a-f]{32}$/),
      object: 'file',
      bytes: 300_000,
      created_at: expect.any(Number),
      expires_at: json.created_at + 30 * 86_400,
      filename: 'data.bin',
      purpose: 'user_data',
      status: 'processed',
    });
    await reopen({});
    expect((await api.call('GET', `/v1/files/${json.id}`)).json).toEqual(json);
    const response = await api.app.request(`/v1/files/${json.id}/content`);
    expect(response.headers.get('content-length')).toBe('300000');
    expect(Buffer.from(await response.arrayBuffer()).equals(Buffer.from(bytes))).toBe(true);
  });

  it('take fields in any order, and say when a file expires', async () => {
    const field = (name: string, value: string) => `--b\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
    const form = `${field('purpose', 'batch')}${field('expires_after[anchor]', 'created_at')}${field('expires_after[seconds]', '7200')}`;
    const { status, json } = await sendForm(`${form}${FILE_HEAD}content\r\n--b--\r\n`);
    expect(status).toBe(200);
    expect(json).toMatchObject({ bytes: 7, expires_at: json.created_at + 7200 });
  });

  const field = (name: string, value: string) => `--b\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
  it.each([
    ['purpose', `${FILE_HEAD}x\r\n--b--`],
    ['file', `${field('purpose', 'batch')}--b--`],
    ['file', `${field('file', 'no file')}${field('purpose', 'batch')}--b--`],
    ['purpose', `${FILE_HEAD}x\r\n${field('purpose', 'batch_output')}--b--`],
    ['purpose', `${FILE_HEAD}x\r\n${field('purpose', 'batch'.repeat(1000))}--b--`],
    ['colour', `${FILE_HEAD}x\r\n${field('purpose', 'batch')}${field('colour', 'red')}--b--`],
    ['__proto__', `${FILE_HEAD}x\r\n${field('purpose', 'batch')}${field('__proto__', 'red')}--b--`],
    ['file', `${FILE_HEAD}x\r\n${FILE_HEAD}y\r\n${field('purpose', 'batch')}--b--`],
    ['expires_after', `${FILE_HEAD}x\r\n${field('purpose', 'batch')}${field('expires_after[seconds]', '7200')}--b--`],
    ['expires_after[seconds]', `${FILE_HEAD}x\r\n${field('purpose', 'batch')}${field('expires_after[seconds]', '1')}--b--`],
    [null, `${FILE_HEAD}x`],
    [null, ''],
  ])('refuse a form by naming %s, and leave nothing behind', async (param, form) => {
    const { status, json } = await sendForm(form);
    expect(status).toBe(400);
    expect(json.error).toMatchObject({ type: 'invalid_request_error', param });
    expect(await filesOnDisk()).toEqual([]);
  });

  it('refuse another type of body', async () => {
    expect((await api.call('POST', '/v1/files', { json: { purpose: 'batch' } })).status).toBe(400);
    expect((await api.call('POST', '/v1/files')).status).toBe(400);
  });

  it('end while they stream when a file is too large', async () => {
    await reopen({ limits: { maxFileBytes: 100_000 } });
    const { body, isCut } = endlessUpload();
    const { status, json } = await sendForm(body);
    expect(status).toBe(413);
    expect(json.error.param).toBe('file');
    await until(() => isCut() || undefined);
    expect(await filesOnDisk()).toEqual([]);
  });

  it('end when one chunk alone is too large, and leave nothing behind', async () => {
    await reopen({ limits: { maxFileBytes: 1000, maxKeyBytes: 1000 } });
    const chunk = `${FILE_HEAD}${'x'.repeat(2000)}`;
    const body = new ReadableStream({ start: (controller) => controller.enqueue(Buffer.from(chunk)) });
    const { status, json } = await sendForm(body);
    expect([status, json.error.param]).toEqual([413, 'file']);
    expect(await filesOnDisk()).toEqual([]);
    expect((await api.upload('x'.repeat(1000))).status).toBe(200);
  });

  it('leave nothing when their record cannot be written', async () => {
    await reopen({ limits: { maxKeyBytes: 1000 } });
    vi.spyOn(RecordFolder.prototype, 'write').mockRejectedValueOnce(new CartridgesError('DISK_FULL', 'no space left'));
    expect((await api.upload('x'.repeat(1000))).status).toBe(507);
    expect(await filesOnDisk()).toEqual([]);
    expect((await api.call('GET', '/v1/files')).json.data).toEqual([]);
    expect((await api.upload('x'.repeat(1000))).status).toBe(200);
  });

  it('end when what stands before the first part does not end', async () => {
    await reopen({ limits: { maxFileBytes: 1000 } });
    const body = new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(10_000)) });
    expect((await sendForm(body)).status).toBe(400);
  });

  it('end when the key has no room, counting those that run at the same time', async () => {
    await reopen({ limits: { maxKeyBytes: 150_000 } });
    await api.upload('x'.repeat(100_000));
    expect((await api.upload('x'.repeat(60_000))).status).toBe(413);
    expect((await sendForm(endlessUpload().body)).status).toBe(413);
    expect((await api.upload('x'.repeat(60_000), { scope: 'bob' })).status).toBe(200);
    const both = await Promise.all([api.upload('x'.repeat(40_000)), api.upload('y'.repeat(40_000))]);
    expect(both.map(({ status }) => status).sort()).toEqual([200, 413]);
    await reopen({ limits: { maxKeyBytes: 150_000 } });
    expect((await api.upload('x'.repeat(20_000))).status).toBe(413);
    expect((await api.upload('x'.repeat(9_000))).status).toBe(200);
  });

  it('are refused when the key has too many files, until one is deleted', async () => {
    await reopen({ limits: { maxFiles: 2 } });
    const { json } = await api.upload('a');
    const both = await Promise.all([api.upload('b'), api.upload('c')]);
    expect(both.map(({ status }) => status).sort()).toEqual([200, 429]);
    await api.call('DELETE', `/v1/files/${json.id}`);
    expect((await api.upload('d')).status).toBe(200);
  });

  it('leave nothing when the client goes away', async () => {
    const client = new AbortController();
    const { body, sent } = endlessUpload();
    const headers = { 'content-type': BOUNDARY };
    const sending = api.app.request('/v1/files', {
      method: 'POST',
      body,
      headers,
      signal: client.signal,
      duplex: 'half',
    } as object);
    while (sent() < 100_000) await new Promise((resolve) => setImmediate(resolve));
    client.abort();
    expect((await sending).status).toBeGreaterThanOrEqual(400);
    expect(await filesOnDisk()).toEqual([]);
  });
});

describe('names and ids from outside', () => {
  const NAMES = ['../../etc/passwd', '..\\..\\x', '/etc/passwd', 'a\0b', '..', 'x'.repeat(5000), '💥'.repeat(300), '\u202egnp'];
  const IDS = [
    '..%2f..%2fetc%2fpasswd',
    '..%2ffiles%2fstray',
    'stray',
    'file-',
    '__proto__',
    'constructor',
    '%00',
    'x'.repeat(3000),
  ];

  it('never become part of a path', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary', minLength: 1 }), async (filename) => {
        const { status, json } = await api.upload('content', { filename });
        expect(status).toBe(200);
        expect(json.filename).not.toMatch(/[/\\\p{C}]/u);
        expect(Array.from(json.filename).length).toBeLessThanOrEqual(255);
        expect((await filesOnDisk()).sort()).toEqual([`${json.id}.content`, `${json.id}.json`]);
        await api.call('DELETE', `/v1/files/${json.id}`);
      }),
      { numRuns: 10, examples: NAMES.map((name): [string] => [name]) },
    );
    expect(await filesOnDisk()).toEqual([]);
  });

  it('are not found, whatever they are', async () => {
    await writeFile(join(folder, 'files', 'stray.content'), 'secret');
    await writeFile(join(folder, 'files', 'stray.json'), '{}');
    const segment = fc.string({ unit: 'binary', minLength: 1 }).map(encodeURIComponent);
    await fc.assert(
      fc.asyncProperty(segment, fc.constantFrom('', '/content'), async (id, rest) => {
        // The URL parser takes these away before any route sees them, and the list is what they lead to.
        fc.pre(!['.', '..', '%2e', '%2e%2e'].includes(id));
        const { status, text } = await api.call('GET', `/v1/files/${id}${rest}`);
        expect(status).toBe(404);
        expect(text).not.toContain('secret');
      }),
      { numRuns: 100, examples: IDS.map((id): [string, string] => [id, '/content']) },
    );
  });
});

describe('lists of files', () => {
  it('come in pages, and by purpose and order', async () => {
    const ids: string[] = [];
    for (let index = 0; index < 5; index++) {
      ids.unshift((await api.upload(`${index}`, { purpose: index === 2 ? 'user_data' : 'batch' })).json.id);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    const first = await api.call('GET', '/v1/files?limit=2');
    expect(first.json).toMatchObject({ object: 'list', first_id: ids[0], last_id: ids[1], has_more: true });
    const rest = await api.call('GET', `/v1/files?limit=3&after=${ids[1]}`);
    expect(rest.json.data.map(({ id }: { id: string }) => id)).toEqual(ids.slice(2));
    expect(rest.json.has_more).toBe(false);
    const data = (await api.call('GET', '/v1/files?purpose=user_data')).json.data;
    expect(data.map(({ id }: { id: string }) => id)).toEqual([ids[2]]);
    const rising = (await api.call('GET', '/v1/files?order=asc')).json.data;
    expect(rising.map(({ id }: { id: string }) => id)).toEqual(ids.toReversed());
  });

  it('of nothing are empty', async () => {
    expect((await api.call('GET', '/v1/files')).json).toEqual({
      object: 'list',
      data: [],
      first_id: null,
      last_id: null,
      has_more: false,
    });
  });

  it.each(['limit=0', 'limit=x', 'limit=10001', 'order=up', 'purpose=secrets', 'colour=red'])('refuse %s', async (query) => {
    const { status, json } = await api.call('GET', `/v1/files?${query}`);
    expect(status).toBe(400);
    expect(json.error.param).toBe(query.split('=')[0]);
  });

  it('refuse to go on behind what is not there', async () => {
    expect((await api.call('GET', '/v1/files?after=file-gone')).json.error).toMatchObject({ param: 'after', code: 'not_found' });
  });
});

describe('the store', () => {
  it('forgets files whose time is over', async () => {
    const { json } = await api.upload('old');
    await reopen({ now: () => Date.now() + 31 * 86_400_000 });
    expect((await api.call('GET', `/v1/files/${json.id}`)).status).toBe(404);
    expect(await filesOnDisk()).toEqual([]);
  });

  it('leaves out what is damaged, says so, and removes what an interrupted upload left', async () => {
    const [cut, broken, good] = [await api.upload('cut'), await api.upload('broken'), await api.upload('good')].map(
      ({ json }) => json.id,
    );
    await writeFile(join(folder, 'files', `${cut}.content`), 'c');
    await writeFile(join(folder, 'files', `${broken}.json`), '{"id":');
    await writeFile(join(folder, 'files', `file-${'0'.repeat(32)}.content`), 'no record');
    await writeFile(join(folder, 'files', '.x.json.abc.part'), 'half a record');
    await writeFile(join(folder, 'incoming', 'half'), 'half an upload');
    await reopen({});
    expect((await api.call('GET', '/v1/files')).json.data.map(({ id }: { id: string }) => id)).toEqual([good]);
    expect(api.warnings).toHaveLength(2);
    expect((await filesOnDisk()).sort()).toEqual(
      [`${cut}.content`, `${cut}.json`, `${broken}.content`, `${broken}.json`, `${good}.content`, `${good}.json`].sort(),
    );
    expect(await readFile(join(folder, 'files', `${broken}.content`), 'utf8')).toBe('broken');
  });
});
