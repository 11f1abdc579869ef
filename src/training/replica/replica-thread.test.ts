import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { WorkerStart } from './protocol.js';
import { ReplicaThread } from './replica-thread.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'thread-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A thread that runs `code` for every request. */
async function threadThat(code: string): Promise<ReplicaThread> {
  const path = join(folder, 'worker.mjs');
  await writeFile(
    path,
    `import { parentPort } from 'node:worker_threads';\nparentPort.on('message', (request) => { ${code} });\n`,
  );
  return new ReplicaThread({} as WorkerStart, pathToFileURL(path));
}

test.each([
  ['throws', 'throw new Error("a kernel was lost")', 'a kernel was lost'],
  ['ends', 'process.exit(3)', 'status 3'],
])('a thread that %s fails its request and those after it', async (_what, code, reason) => {
  const thread = await threadThat(code);
  const failure = { code: 'ENGINE_FAILURE', message: expect.stringContaining(reason) };
  await expect(thread.request('refresh', {})).rejects.toMatchObject(failure);
  await expect(thread.request('refresh', {})).rejects.toMatchObject(failure);
  await thread.close();
});

test('errors keep their code and hint on the way', async () => {
  const thread = await threadThat(
    'if (request.kind === "close") parentPort.close(); else parentPort.postMessage({ error: { code: "OUT_OF_MEMORY", message: "full", hint: "less" } });',
  );
  await expect(thread.request('reduce', {})).rejects.toMatchObject({ code: 'OUT_OF_MEMORY', message: 'full', hint: 'less' });
  await thread.close();
});
