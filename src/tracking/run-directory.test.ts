import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { RunDirectory, readMetrics } from './run-directory.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'run-'));
});
afterEach(() => rm(folder, { recursive: true }));

test('keeps settings, metrics, tables and the summary', async () => {
  const run = await RunDirectory.create(join(folder, 'a'), { seed: 7 });
  run.log(1, { loss: 2 });
  run.log(2, { loss: 1.5 });
  run.table('answers', [{ id: 'q-1', correct: true }]);
  await run.finish({ best: 1.5 });
  expect(await readMetrics(run.folder)).toMatchObject([
    { step: 1, loss: 2 },
    { step: 2, loss: 1.5 },
  ]);
  expect(JSON.parse(await readFile(join(run.folder, 'settings.json'), 'utf8'))).toEqual({ seed: 7 });
  expect(JSON.parse(await readFile(join(run.folder, 'summary.json'), 'utf8'))).toEqual({ best: 1.5 });
  expect(await readFile(join(run.folder, 'tables', 'answers.jsonl'), 'utf8')).toBe('{"id":"q-1","correct":true}\n');
});

test('a second run in the same folder appends its metrics', async () => {
  const first = await RunDirectory.create(folder, {});
  first.log(1, { loss: 2 });
  await first.finish({});
  const second = await RunDirectory.create(folder, {});
  second.log(2, { loss: 1 });
  await second.finish({});
  expect((await readMetrics(folder)).map(({ step }) => step)).toEqual([1, 2]);
});
