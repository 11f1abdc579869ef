import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { startServerProcess } from '../support/server-process.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-drain-'));
afterAll(() => rmSync(folder, { recursive: true }));

const startProcess = (...flags: string[]) => startServerProcess(flags, { folder });

function chat(url: string, maxTokens: number): Promise<Response> {
  return fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'pocket',
      messages: [{ role: 'user', content: 'Hello' }],
      max_tokens: maxTokens,
      ignore_eos: true,
      stream: true,
    }),
  });
}

test('SIGTERM lets a stream finish, and the process ends with 0', async () => {
  const { url, child, ended } = await startProcess();
  const response = await chat(url, 400);
  child.kill('SIGTERM');
  expect(await response.text()).toMatch(/"finish_reason":"length"[\s\S]*data: \[DONE\]/);
  const { status, stdout, stderr } = await ended;
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ url, model: 'pocket', users: expect.any(Number) });
  expect(stderr).toMatch(/POST \/v1\/chat\/completions 200 .* local /);
}, 180_000);

test('a stream that is not done at the deadline is broken off, and the process ends with 0', async () => {
  const { url, child, ended } = await startProcess('--quiet', '--set', 'serving.drainSeconds=0');
  const response = await chat(url, 1800);
  child.kill('SIGTERM');
  expect(await response.text().catch(() => 'broken off')).not.toContain('[DONE]');
  const { status, stderr } = await ended;
  expect(status).toBe(0);
  expect(stderr).not.toContain('/v1/chat/completions');
}, 180_000);
