import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, expect, test } from 'vitest';
import { readCartridgeHeader } from '../src/cartridge/cartridge-file.js';
import { readConfigFile } from '../src/cli/config-file.js';
import { packageRoot } from '../src/core/package.js';
import { resolveAssignments } from '../src/pipeline/resolve-settings.js';
import { openDataset } from '../src/self-study/dataset/open-dataset.js';
import { writeTextCartridges } from './support/pocket-server.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-examples-'));
afterAll(() => rmSync(folder, { recursive: true }));

const TSX = join(dirname(createRequire(import.meta.url).resolve('tsx/package.json')), 'dist', 'cli.mjs');

async function runExample(name: string, flags: string[]) {
  const child = spawn(process.execPath, [TSX, join(packageRoot, 'examples', name), ...flags], {
    cwd: folder,
    env: { ...process.env, CARTRIDGES_CACHE: join(folder, 'cache') },
  });
  const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { status, stdout, stderr };
}

test('library.ts builds a cartridge and asks it', async () => {
  const { status, stdout, stderr } = await runExample('library.ts', ['--conversations', '8', '--steps', '2', '--threads', '1']);
  expect(stderr).toMatch(/^synthesize: kept \d of 8 conversations/m);
  expect(stderr).toMatch(/^train: 2 steps, validation KL \d/m);
  expect(status).toBe(0);

  const [first = '', answer = ''] = stdout.split('\n');
  expect(first).toMatch(/^harbour\.cartridge\.safetensors: \d+ rows for \d+ tokens$/);
  const [path = '', rows] = first.split(/: | rows/);
  expect((await readCartridgeHeader(join(folder, path))).tokenCount).toBe(Number(rows));
  expect(answer).not.toBe('');
  expect(existsSync(join(folder, 'runs'))).toBe(true);
});

test('stages.ts makes a cartridge stage by stage and prints what it measured', async () => {
  const { status, stdout, stderr } = await runExample('stages.ts', ['--conversations', '8', '--steps', '2', '--threads', '1']);
  expect(stderr).toMatch(/^train: 2 steps, validation KL \d/m);
  expect(status).toBe(0);

  const [, conversations, rows] = /: (\d+) of 8 conversations\n.*: (\d+) rows for \d+ tokens\n/.exec(stdout) ?? [];
  const work = join(folder, 'runs', 'stages-8-2');
  expect((await openDataset(join(work, 'dataset'))).conversationCount).toBe(Number(conversations));
  expect((await readCartridgeHeader(join(folder, 'stages.cartridge.safetensors'))).tokenCount).toBe(Number(rows));
  expect(existsSync(join(work, 'training', 'metrics.jsonl'))).toBe(true);
  expect(existsSync(join(work, 'training', 'checkpoint.safetensors'))).toBe(false);
  for (const row of ['no context', 'full text', 'truncated text', 'cartridge']) {
    expect(stdout).toMatch(new RegExp(`^${row} +[\\d.]+ % `, 'm'));
  }
});

test('serve.ts asks its server and stops', async () => {
  const corpus = readFileSync(join(packageRoot, 'examples', 'corpora', 'harbour', 'corpus.txt'), 'utf8');
  await writeTextCartridges(folder, { 'quickstart.cartridge': corpus.slice(0, 120) });
  const { status, stdout, stderr } = await runExample('serve.ts', []);
  expect(stderr).toBe('');
  expect(status).toBe(0);
  expect(stdout.trim()).not.toBe('');
});

test('cartridges.config.ts holds settings that exist', async () => {
  const assignments = await readConfigFile(packageRoot, join('examples', 'cartridges.config.ts'));
  expect(assignments.length).toBeGreaterThan(0);
  expect(resolveAssignments(assignments)).toMatchObject({ model: 'Qwen/Qwen3-0.6B-GGUF', training: { tokens: 512 } });
});
