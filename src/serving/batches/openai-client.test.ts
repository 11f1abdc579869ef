import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { getRequestListener } from '@hono/node-server';
import OpenAI, { toFile } from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  HeldDispatch,
  removeFolder,
  requestLines,
  TestApi,
  temporaryFolder,
  until,
} from '../../../test/support/batch-fixture.js';

const held = new HeldDispatch();
let folder: string;
let api: TestApi;
let server: Server;
let url: string;
let client: OpenAI;
let stranger: OpenAI;

beforeAll(async () => {
  folder = await temporaryFolder();
  api = await TestApi.open({ folder, dispatch: held.dispatch, limits: { maxFileBytes: 1 << 20 } });
  server = createServer(getRequestListener(api.app.fetch, { overrideGlobalObjects: false }));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const options = { baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 };
  client = new OpenAI({ ...options, defaultHeaders: { 'x-scope': 'alice' } });
  stranger = new OpenAI({ ...options, defaultHeaders: { 'x-scope': 'bob' } });
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await api.close();
  await removeFolder(folder);
});

describe("OpenAI's client", () => {
  it('uploads a file, runs a batch and reads its output', async () => {
    const file = await client.files.create({ file: await toFile(Buffer.from(requestLines(3)), 'in.jsonl'), purpose: 'batch' });
    expect(await client.files.waitForProcessing(file.id)).toEqual(file);
    const batch = await client.batches.create({
      input_file_id: file.id,
      endpoint: '/v1/chat/completions',
      completion_window: '24h',
      metadata: { kind: 'test' },
      output_expires_after: { anchor: 'created_at', seconds: 7200 },
    });
    expect(batch.status).toBe('validating');
    await until(() => held.asked[2]);
    expect(await client.batches.retrieve(batch.id)).toMatchObject({
      status: 'in_progress',
      request_counts: { total: 3, completed: 0 },
    });
    held.release(3);
    const done = await until(async () => {
      const now = await client.batches.retrieve(batch.id);
      return now.status === 'completed' ? now : undefined;
    });
    expect(done.request_counts).toEqual({ total: 3, completed: 3, failed: 0 });
    const output = await (await client.files.content(done.output_file_id!)).text();
    expect(
      output
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).custom_id),
    ).toEqual(['r0', 'r1', 'r2']);
    const kept = await client.files.retrieve(done.output_file_id!);
    expect(kept.expires_at).toBe(kept.created_at + 7200);
    expect((await client.files.delete(done.output_file_id!)).deleted).toBe(true);
  });

  it('walks through lists page by page', async () => {
    for (let index = 0; index < 3; index++)
      await client.files.create({ file: await toFile(Buffer.from('x'), 'x'), purpose: 'user_data' });
    const files = [];
    for await (const file of client.files.list({ limit: 1, purpose: 'user_data', order: 'asc' })) files.push(file.id);
    expect(new Set(files).size).toBe(3);
    const batches = [];
    for await (const batch of client.batches.list({ limit: 1 })) batches.push(batch.id);
    expect(batches.length).toBeGreaterThan(0);
    expect((await stranger.files.list()).data).toEqual([]);
    expect((await stranger.batches.list()).data).toEqual([]);
  });

  it('cancels a batch', async () => {
    const before = held.asked.length;
    const file = await client.files.create({ file: await toFile(Buffer.from(requestLines(2)), 'in.jsonl'), purpose: 'batch' });
    const order = { input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h' } as const;
    const { id } = await client.batches.create(order);
    await until(() => held.asked[before + 1]);
    expect((await client.batches.cancel(id)).status).toBe('cancelling');
    await until(async () => ((await client.batches.retrieve(id)).status === 'cancelled' ? true : undefined));
    expect(held.underWay).toBe(0);
  });

  it('gets errors as those of OpenAI', async () => {
    for (const megabytes of [2, 8, 3]) {
      const tooLarge = await toFile(Buffer.alloc(megabytes << 20), 'large');
      await expect(client.files.create({ file: tooLarge, purpose: 'batch' })).rejects.toMatchObject({ status: 413 });
    }
    await expect(client.batches.retrieve('batch_x')).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    const file = await client.files.create({ file: await toFile(Buffer.from('x'), 'x'), purpose: 'batch' });
    await expect(stranger.files.retrieve(file.id)).rejects.toMatchObject({ status: 404, type: 'not_found_error' });
    await expect(stranger.files.content(file.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });
});

it('frees what an upload took when its connection breaks', async () => {
  const before = (await client.files.list()).data.length;
  for (let round = 0; round < 5; round++) {
    const headers = { 'x-scope': 'alice', 'content-type': 'multipart/form-data; boundary=b' };
    const upload = request(`${url}/v1/files`, { method: 'POST', headers });
    upload.on('error', () => {});
    upload.write('--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhalf of it');
    await new Promise((resolve) => setTimeout(resolve, 20));
    upload.destroy();
  }
  await until(async () => ((await readdir(join(folder, 'incoming'))).length === 0 ? true : undefined));
  expect((await client.files.list()).data.length).toBe(before);
});
