import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../src/core/package.js';
import { CONDITIONS, type ConditionName } from '../src/evaluation/conditions.js';
import { readQuestions } from '../src/evaluation/questions.js';
import type { QuickstartReport } from '../src/pipeline/quickstart.js';
import { runCommand } from './support/command-line.js';

/** The least share of questions that the quickstart's cartridge answers rightly. */
const ACCURACY_FLOOR = 0.3;

const folder = mkdtempSync(join(tmpdir(), 'cartridges-quickstart-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('npm run quickstart -- --json', () => {
  let report: QuickstartReport;
  let stderr: string;

  beforeAll(async () => {
    writeFileSync(join(folder, 'cartridges.config.json'), JSON.stringify({ model: 'other.gguf', training: { tokens: 5000 } }));
    const result = await runCommand(['--json'], { folder, script: join(packageRoot, 'scripts', 'quickstart.mjs') });
    expect(result).toMatchObject({ status: 0, signal: null });
    report = JSON.parse(result.stdout);
    stderr = result.stderr;
  }, 300_000);

  test('prints the promised fields', async () => {
    const questions = await readQuestions(join(packageRoot, 'examples', 'corpora', 'harbour', 'questions.jsonl'));
    const share = expect.toSatisfy((value: unknown) => typeof value === 'number' && value >= 0 && value <= 1);
    const number = expect.toSatisfy((value: unknown) => typeof value === 'number' && value >= 0);
    const condition = {
      accuracy: share,
      exactAccuracy: share,
      byKind: expect.any(Object),
      loss: number,
      perplexity: number,
      kvBytes: number,
      promptTokens: number,
      timeToFirstTokenMs: number,
      decodeTokensPerSecond: number,
    };
    const perCondition = <T>(value: T) => Object.fromEntries(CONDITIONS.map((name) => [name, value]));
    const seconds = { synthesize: number, train: number, total: number };
    expect(report).toEqual({
      cartridge: { path: 'quickstart.cartridge.safetensors', tokens: number },
      corpus: { tokens: number },
      questions: questions.length,
      seconds: { ...seconds, evaluate: number },
      conditions: perCondition(condition),
      compression: number,
      abstention: perCondition(share),
      general: perCondition(share),
      build: {
        path: 'quickstart.cartridge.safetensors',
        tokens: report.cartridge.tokens,
        conversations: number,
        supervisedTokens: number,
        steps: number,
        validationKl: number,
        seconds,
      },
      answers: Array.from({ length: 3 }, () => ({
        question: expect.any(String),
        expected: expect.any(String),
        reply: expect.any(String),
        correct: expect.any(Boolean),
      })),
    });
  });

  test('the cartridge answers better than no text and than the text cut to its size', () => {
    const { conditions, seconds, compression } = report;
    const accuracy = (name: ConditionName) => conditions[name].accuracy ?? 0;
    const perplexity = (name: ConditionName) => conditions[name].perplexity ?? Number.NaN;
    for (const name of CONDITIONS) {
      const measured = `accuracy ${accuracy(name).toFixed(3)}, perplexity ${perplexity(name).toFixed(2)}`;
      console.info(`quickstart, ${name}: ${measured}, ${conditions[name].kvBytes} bytes`);
    }
    console.info(`quickstart: ${seconds.total.toFixed(0)} s in all, ${compression.toFixed(1)} times smaller`);
    expect(accuracy('cartridge')).toBeGreaterThanOrEqual(ACCURACY_FLOOR);
    expect(accuracy('cartridge')).toBeGreaterThan(accuracy('none'));
    expect(accuracy('cartridge')).toBeGreaterThan(accuracy('truncated'));
    expect(perplexity('cartridge')).toBeLessThan(perplexity('truncated'));
    expect(conditions.cartridge.kvBytes).toBeLessThan(conditions.full.kvBytes);
    expect(conditions.truncated.kvBytes).toBe(conditions.cartridge.kvBytes);
  });

  test('shows every stage and leaves only the cartridge', () => {
    for (const stage of ['load', 'corpus', 'synthesize', 'train', 'evaluate'])
      expect(stderr).toMatch(new RegExp(`^${stage}: `, 'm'));
    expect(existsSync(join(folder, 'quickstart.cartridge.safetensors'))).toBe(true);
    expect(readdirSync(folder).sort()).toEqual(['cache', 'cartridges.config.json', 'quickstart.cartridge.safetensors']);
  });
});
