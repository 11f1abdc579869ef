import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { TuneReport } from '../../src/pipeline/tune.js';
import { runCommand } from '../support/command-line.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-tune-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('tune keeps the fastest settings, and what runs later uses and records them', async () => {
  const tune = await runCommand(['tune', '--model', 'pocket', '--threads', '1', '--json'], { folder });
  expect(tune).toMatchObject({ status: 0 });
  const { chosen, standard, trials, path } = JSON.parse(tune.stdout) as TuneReport;
  expect(standard.tuning).toMatchObject({ threads: 1, batchTokens: 512, flashAttention: true });
  expect(chosen.milliseconds).toBeLessThanOrEqual(standard.milliseconds);
  expect(trials.length).toBeGreaterThan(5);
  for (const { speed } of trials) expect(Math.min(speed.prompt, speed.decode, speed.decodeAlone)).toBeGreaterThan(0);
  expect(Object.values(JSON.parse(readFileSync(path, 'utf8')))).toEqual([chosen.tuning]);

  const notes = join('examples', 'corpora', 'harbour', 'corpus.txt');
  const source = join(import.meta.dirname, '..', '..', notes);
  const flags = ['--model', 'pocket', '--threads', '1', '--conversations', '4', '--json'];
  expect(await runCommand(['synthesize', source, '-o', 'data', ...flags], { folder })).toMatchObject({ status: 0 });
  const manifest = readFileSync(join(folder, 'data', 'manifest.json'), 'utf8');
  expect(JSON.parse(manifest).recipe.computation.tuning).toEqual(chosen.tuning);
}, 120_000);
