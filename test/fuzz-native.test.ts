import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { packageRoot } from '../src/core/package.js';
import { runCommand } from './support/command-line.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-fuzz-'));
afterAll(() => rmSync(folder, { recursive: true }));

const TSX = join(dirname(createRequire(import.meta.url).resolve('tsx/package.json')), 'dist', 'cli.mjs');
const CHILD = join(packageRoot, 'test', 'support', 'fuzz-native-child.ts');

test.each([
  ['model', 200],
  ['cartridge', 150],
])(
  'no damaged %s that the readers let through ends the process',
  async (kind, rounds) => {
    const { status, signal, stdout, stderr } = await runCommand([CHILD, kind, String(rounds), folder], { folder, script: TSX });
    const lastRound = readFileSync(join(folder, 'round'), 'utf8');
    expect({ status, signal }, `after damage ${lastRound}: ${stderr}`).toEqual({ status: 0, signal: null });
    const { used, refused } = JSON.parse(stdout.trim().split('\n').at(-1)!) as { used: number; refused: Record<string, number> };
    const refusals = Object.values(refused).reduce((sum, count) => sum + count, 0);
    expect(used + refusals).toBe(rounds);
    // Both must happen, or the damage does not reach what it shall test.
    expect(used).toBeGreaterThan(0);
    expect(refusals).toBeGreaterThan(0);
  },
  120_000,
);
