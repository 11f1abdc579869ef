import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WorkerThread } from './worker-thread.js';

interface Requests {
  work: { request: { text?: string }; answer: { text?: string } };
}

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'thread-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A thread that runs `code` for every request. */
async function threadThat(code: string): Promise<WorkerThread<Requests>> {
  const path = join(folder, 'worker.mjs');
  await writeFile(
    path,
    `import { parentPort } from 'node:worker_threads';\nparentPort.on('message', (request) => { ${code} });\n`,
  );
  const hints = { start: 'start fewer', stop: 'start anew' };
  return new WorkerThread<Requests>({ entry: pathToFileURL(path), name: 'a thread', hints });
}

test.each([
  ['throws', 'throw new Error("a kernel was lost")', 'a kernel was lost'],
  ['ends', 'process.exit(3)', 'it ended with status 3'],
])('a thread that %s fails its request and those after it', async (_what, code, reason) => {
  const thread = await threadThat(code);
  const failure = { code: 'ENGINE_FAILURE', message: expect.stringContaining(`a thread stopped: ${reason}`), hint: 'start anew' };
  await expect(thread.request('work', {})).rejects.toMatchObject(failure);
  await expect(thread.request('work', {})).rejects.toMatchObject(failure);
  await thread.close();
});

test('errors keep their code and hint on the way', async () => {
  const thread = await threadThat(
    'if (request.kind === "close") parentPort.close(); else parentPort.postMessage({ error: { code: "OUT_OF_MEMORY", message: "full", hint: "less" } });',
  );
  await expect(thread.request('work', {})).rejects.toMatchObject({ code: 'OUT_OF_MEMORY', message: 'full', hint: 'less' });
  await thread.close();
});

test('requests that come before an answer are answered in their order', async () => {
  const thread = await threadThat(
    'if (request.kind === "close") parentPort.close(); else parentPort.postMessage({ answer: { text: request.text + "!" } });',
  );
  const answers = await Promise.all(['a', 'b', 'c'].map((text) => thread.request('work', { text })));
  expect(answers.map(({ text }) => text)).toEqual(['a!', 'b!', 'c!']);
  await thread.close();
});

test('a thread that ends fails all that wait for it', async () => {
  const thread = await threadThat('process.exit(3)');
  const failure = { code: 'ENGINE_FAILURE' };
  const first = expect(thread.request('work', {})).rejects.toMatchObject(failure);
  await expect(thread.request('work', {})).rejects.toMatchObject(failure);
  await first;
  expect(thread.hasFailed).toBe(true);
});
