import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type ClientRequest, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import OpenAI, { toFile } from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { writeTextCartridges } from '../support/pocket-server.js';
import { type ServerProcess, startServerProcess } from '../support/server-process.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-crash-'));
afterAll(() => rmSync(folder, { recursive: true }));

const REQUESTS = 30;
const SECOND_REQUESTS = 6;
/** Requests of batches that are answered at the same time: a kill can cut off these, and no others. */
const CONCURRENT = 8;

let cartridge: Buffer;
beforeAll(async () => {
  await writeTextCartridges(folder, { harbour: 'The harbour master is called Ines.' });
  cartridge = await readFile(join(folder, 'harbour.safetensors'));
});

const start = () => startServerProcess(['--quiet'], { folder });
const clientOf = ({ url }: ServerProcess) => new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 });

/** A file of requests of a batch; one in five of them is refused. */
function requestLines(count: number, name: string): string {
  const line = (_: unknown, index: number) => {
    const model = index % 5 === 4 ? 'pocket:nobody' : 'pocket:whole';
    const messages = [{ role: 'user', content: `Count to ${index}.` }];
    const body = { model, messages, max_tokens: 60, ignore_eos: true, temperature: 0 };
    return JSON.stringify({ custom_id: `${name}-${index}`, method: 'POST', url: '/v1/chat/completions', body });
  };
  return Array.from({ length: count }, line).join('\n');
}

async function startBatch(client: OpenAI, count: number, name: string): Promise<string> {
  const file = await client.files.create({
    file: await toFile(Buffer.from(requestLines(count, name)), 'in.jsonl'),
    purpose: 'batch',
  });
  const order = { input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h' } as const;
  return (await client.batches.create(order)).id;
}

/** Sends the first half of a body and leaves the connection open. */
function sendHalf(url: string, contentType: string, body: Buffer): Promise<ClientRequest> {
  return new Promise((resolve) => {
    const headers = { 'content-type': contentType, 'content-length': body.length };
    const upload = request(url, { method: 'POST', headers });
    upload.on('error', () => undefined);
    upload.write(body.subarray(0, body.length / 2), () => resolve(upload));
  });
}

async function sendCartridge(url: string, id: string): Promise<number> {
  const headers = { 'content-type': 'application/octet-stream' };
  return (await fetch(`${url}/v1/cartridges?id=${id}`, { method: 'POST', headers, body: new Uint8Array(cartridge) })).status;
}

/** Asks again until there is something. */
async function until<T>(ask: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await ask();
    if (found !== undefined) return found;
    await setTimeout(20);
  }
}

async function answersSince({ url }: ServerProcess): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^cartridges_answers_total\{outcome="finished"\} (\d+)/m.exec(text)?.[1] ?? 0);
}

test('a server is alone with its folder', async () => {
  const first = await start();
  const refusal = `another server uses the folder serving \\(process ${first.child.pid}\\)`;
  await expect(start()).rejects.toThrow(new RegExp(refusal));
  // Nothing of the first one was touched.
  expect((await fetch(`${first.url}/ready`)).status).toBe(200);
  first.child.kill('SIGTERM');
  expect(await first.ended).toMatchObject({ status: 0 });
}, 120_000);

test('a killed server loses no accepted batch, answers no line twice, and shows no half upload', async () => {
  const first = await start();
  expect(await sendCartridge(first.url, 'whole')).toBe(201);
  const client = clientOf(first);
  const batches = [await startBatch(client, REQUESTS, 'first'), await startBatch(client, SECOND_REQUESTS, 'second')];
  await sendHalf(`${first.url}/v1/cartridges?id=half`, 'application/octet-stream', cartridge);
  await sendHalf(`${first.url}/v1/files`, 'multipart/form-data; boundary=b', halfForm());
  const before = await until(async () => {
    const { status, request_counts: counts } = await client.batches.retrieve(batches[0]!);
    return status === 'in_progress' && counts!.completed > CONCURRENT ? counts!.completed : undefined;
  });
  first.child.kill('SIGKILL');
  expect(await first.ended).toMatchObject({ status: null, signal: 'SIGKILL' });
  expect(before).toBeLessThan((REQUESTS * 4) / 5);

  const second = await start();
  const again = clientOf(second);
  await expectBatch(again, batches[0]!, REQUESTS, 'first');
  await expectBatch(again, batches[1]!, SECOND_REQUESTS, 'second');
  const good = (REQUESTS * 4) / 5 + SECOND_REQUESTS - 1;
  expect(await answersSince(second)).toBeLessThanOrEqual(good - before);

  const ids = (await (await fetch(`${second.url}/v1/cartridges`)).json()) as { data: { id: string }[] };
  expect(ids.data.map(({ id }) => id)).toEqual(['whole']);
  const files = [];
  for await (const { purpose } of again.files.list()) files.push(purpose);
  expect(files.toSorted()).toEqual(['batch', 'batch', ...Array(4).fill('batch_output')]);
  expect(await sendCartridge(second.url, 'half')).toBe(201);
  second.child.kill('SIGTERM');
  expect(await second.ended).toMatchObject({ status: 0, stderr: expect.not.stringContaining('warning') });
}, 600_000);

function halfForm(): Buffer {
  const head =
    '--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n';
  return Buffer.from(`${head}${'x'.repeat(1 << 20)}\r\n--b--\r\n`);
}

/** The batch ends with every request answered once, in its order. */
async function expectBatch(client: OpenAI, id: string, count: number, name: string): Promise<void> {
  const batch = await until(async () => {
    const now = await client.batches.retrieve(id);
    return now.status === 'validating' || now.status === 'in_progress' || now.status === 'finalizing' ? undefined : now;
  });
  const failed = Math.floor(count / 5);
  expect(batch).toMatchObject({ status: 'completed', request_counts: { total: count, completed: count - failed, failed } });
  const idsIn = async (file: string) => {
    const text = await (await client.files.content(file)).text();
    return text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).custom_id as string);
  };
  const expected = Array.from({ length: count }, (_, index) => `${name}-${index}`);
  expect(await idsIn(batch.output_file_id!)).toEqual(expected.filter((_, index) => index % 5 !== 4));
  expect(await idsIn(batch.error_file_id!)).toEqual(expected.filter((_, index) => index % 5 === 4));
}
