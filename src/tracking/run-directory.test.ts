import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises';
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

test.each([
  { continued: 2, steps: [1, 2, 3] },
  { continued: 0, steps: [3] },
])('a run that continues after step $continued forgets what an earlier one logged beyond it', async ({ continued, steps }) => {
  const first = await RunDirectory.create(folder, {});
  for (const step of [1, 2, 3, 4]) first.log(step, { loss: 1 });
  await first.close();
  // As a killed process leaves it.
  await appendFile(join(folder, 'metrics.jsonl'), '{"step":5,"lo');
  const second = await RunDirectory.create(folder, {});
  await second.continueAfter(continued);
  second.log(3, { loss: 0.5 });
  await second.finish({});
  const metrics = await readMetrics(folder);
  expect(metrics.map(({ step }) => step)).toEqual(steps);
  expect(metrics.at(-1)).toMatchObject({ loss: 0.5 });
});
