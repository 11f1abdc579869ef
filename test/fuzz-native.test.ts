import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { runCommand } from './support/command-line.js';

const TSX = join(dirname(createRequire(import.meta.url).resolve('tsx/package.json')), 'dist', 'cli.mjs');
const CHILD = join(import.meta.dirname, 'support', 'fuzz-native-child.ts');
const ROUNDS = 150;

const folder = mkdtempSync(join(tmpdir(), 'cartridges-fuzz-'));
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  ['models with a damaged header', 'model', 'tiny-llama', { leastUsed: 15, refusal: 'INVALID_MODEL' }],
  ['models with a damaged header and head norms', 'model', 'tiny-qwen3', { leastUsed: 15, refusal: 'INVALID_MODEL' }],
  ['damaged cartridges', 'cartridge', 'tiny-llama', { leastUsed: 0, refusal: 'INVALID_CARTRIDGE' }],
  ['cartridges of extreme numbers', 'rows', 'tiny-llama', { leastUsed: 15, refusal: 'INVALID_CARTRIDGE' }],
])('no library ends the process over %s', async (_what, kind, model, { leastUsed, refusal }) => {
  const child = await runCommand([CHILD, kind, model, String(ROUNDS), folder], { folder, script: TSX });
  const lastRound = readFileSync(join(folder, 'round'), 'utf8');
  expect(child, `round ${lastRound}: ${child.stderr}`).toMatchObject({ status: 0, signal: null });
  expect(lastRound).toBe(String(ROUNDS - 1));
  const { used, refused } = JSON.parse(child.stdout) as { used: number; refused: Record<string, number> };
  console.info(`${kind} ${model}: ${used} used, refused ${JSON.stringify(refused)}`);
  expect(used).toBeGreaterThanOrEqual(leastUsed);
  expect(refused[refusal]).toBeGreaterThan(0);
  expect(Object.keys(refused)).not.toContain('INTERNAL');
});
