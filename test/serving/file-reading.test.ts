import type { FileHandle } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { FileStore } from '../../src/serving/batches/file-store.js';
import { PocketServer } from '../support/pocket-server.js';

/** More than the system keeps of an answer that nobody reads. */
const SIZE = 32 << 20;
/** What a handle says that is closed. */
const CLOSED = -1;

let server: PocketServer;
let path: string;
const opened = vi.spyOn(FileStore.prototype, 'openContent');
beforeAll(async () => {
  server = await PocketServer.start({ serving: { requestSeconds: 1 } });
  const { json } = await server.upload('x'.repeat(SIZE), undefined, 'user_data');
  path = `/v1/files/${json.id}/content`;
});
afterAll(() => server.close());

/** Of the file that was opened last. */
const handle = () => opened.mock.results.at(-1)!.value as Promise<FileHandle>;

it('ends with the client, however little of it was read', async () => {
  const client = new AbortController();
  const response = await server.open({ path, signal: client.signal });
  const file = await handle();
  expect(file.fd).not.toBe(CLOSED);
  response.on('error', () => {});
  client.abort();
  await vi.waitFor(() => expect(file.fd).toBe(CLOSED), { timeout: 500 });
});

/** Reads in small steps without ever standing still, and tells how much came before the connection was cut. */
async function readSlowly(response: IncomingMessage): Promise<number> {
  let bytes = 0;
  try {
    for await (const chunk of response) {
      bytes += (chunk as Buffer).length;
      await setTimeout(5);
    }
  } catch (error) {
    expect(error).toMatchObject({ code: 'ECONNRESET' });
    return bytes;
  }
  throw new Error(`all ${bytes} bytes came`);
}

it('ends with the time of its request, also for a reader who goes on reading', async () => {
  expect(await readSlowly(await server.open({ path }))).toBeLessThan(SIZE);
  expect((await handle()).fd).toBe(CLOSED);
});

it('is whole for whoever reads it in time', async () => {
  expect((await server.send({ path })).text).toHaveLength(SIZE);
  const file = await handle();
  await vi.waitFor(() => expect(file.fd).toBe(CLOSED), { timeout: 500 });
});

it('is not left open by a HEAD', async () => {
  expect((await server.send({ method: 'HEAD', path })).text).toBe('');
  const file = await handle();
  await vi.waitFor(() => expect(file.fd).toBe(CLOSED), { timeout: 500 });
});
