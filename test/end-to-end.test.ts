import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageRoot } from '../src/core/package.js';
import { CONDITIONS } from '../src/evaluation/conditions.js';
import type { QuickstartReport } from '../src/pipeline/quickstart.js';
import { runCommand } from './support/command-line.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-quickstart-'));
afterAll(() => rmSync(folder, { recursive: true }));

let report: QuickstartReport;
beforeAll(async () => {
  const { status, stdout, stderr } = await runCommand(['--json'], {
    folder,
    script: join(packageRoot, 'scripts', 'quickstart.mjs'),
  });
  expect(status, stderr).toBe(0);
  report = JSON.parse(stdout);
}, 300_000);

test('prints one object of the documented form', () => {
  expect(report.cartridge).toEqual({ path: 'quickstart.cartridge.safetensors', tokens: 128 });
  expect(existsSync(join(folder, report.cartridge.path))).toBe(true);
  expect(report.corpus.tokens).toBeGreaterThan(400);
  expect(report.questions).toBe(70);
  for (const condition of CONDITIONS) {
    const { accuracy, perplexity, kvBytes, promptTokens, timeToFirstTokenMs, decodeTokensPerSecond } =
      report.conditions[condition];
    expect(accuracy).toBeGreaterThanOrEqual(0);
    expect(accuracy).toBeLessThanOrEqual(1);
    expect(perplexity).toBeGreaterThan(1);
    expect(kvBytes).toBe(condition === 'none' ? 0 : condition === 'full' ? 511 * 2560 : 128 * 2560);
    for (const value of [promptTokens, timeToFirstTokenMs, decodeTokensPerSecond]) expect(value).toBeGreaterThan(0);
    expect(report.abstention[condition]).toBeGreaterThanOrEqual(0);
    expect(report.general[condition]).toBeGreaterThanOrEqual(0);
  }
  expect(report.compression).toBeCloseTo(511 / 128);
  expect(report.seconds.total).toBeGreaterThan(1);
  expect(report.answers).toHaveLength(3);
});

// A quiet machine with two cores reaches 0.64; a busy one makes fewer steps in the same time.
test('the cartridge knows its text: more than nothing, more than the text cut to its size', () => {
  const { none, truncated, full, cartridge } = report.conditions;
  expect(none.accuracy).toBe(0);
  expect(full.accuracy).toBeGreaterThan(0.7);
  expect(cartridge.accuracy).toBeGreaterThanOrEqual(0.3);
  expect(cartridge.accuracy).toBeGreaterThan(truncated.accuracy!);
  expect(cartridge.perplexity).toBeLessThan(truncated.perplexity! * 0.8);
});
