import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetReadObjects } from 'hyparquet';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatBytes } from '../core/format-bytes.js';
import type { ConditionReport } from './conditions.js';
import { type EvaluationReport, formatReport, type ReportedAnswer, writeReport } from './report.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'report-'));
});
afterAll(() => rm(folder, { recursive: true }));

function condition(accuracy: number, kvBytes: number, more: Partial<ConditionReport> = {}): ConditionReport {
  return {
    accuracy,
    exactAccuracy: 0.05,
    byKind: { fact: { questions: 70, accuracy } },
    loss: Math.log(3.1449),
    perplexity: 3.1449,
    kvBytes,
    promptTokens: 12.5,
    timeToFirstTokenMs: 4.25,
    decodeTokensPerSecond: 310.5,
    ...more,
  };
}

const REPORT: EvaluationReport = {
  cartridge: { path: 'notes.cartridge.safetensors', tokens: 64 },
  corpus: { tokens: 516 },
  questions: 70,
  seconds: { synthesize: 10, total: 42.25 },
  conditions: {
    none: condition(0, 0, { perplexity: null, timeToFirstTokenMs: null }),
    full: condition(0.86, 1_331_200, { cut: true }),
    truncated: condition(0.1, 163_840, { withoutText: true }),
    cartridge: condition(0.7, 163_840, { failed: 2 }),
  },
  compression: 8.125,
  abstention: { none: 1, full: 0.2, truncated: 0.5, cartridge: 0.25 },
  general: {},
};

const ANSWERS: ReportedAnswer[] = [
  {
    condition: 'cartridge',
    set: 'questions',
    question: {
      id: 'q-1',
      question: 'Who?',
      answer: 'Benoît',
      accept: [],
      kind: 'fact',
      extra: { entity: 'clock', tags: ['a'] },
    },
    reply: 'It was Benoît. 🕰',
    correct: true,
    exact: false,
    abstained: false,
    promptTokens: 12,
    timeToFirstTokenMs: 1.5,
    decodeTokensPerSecond: 200,
  },
  {
    condition: 'none',
    set: 'unanswerable',
    question: { id: 'u-1', question: 'Why?', answer: null, accept: [], extra: {} },
    reply: '',
    correct: false,
    exact: false,
    abstained: false,
    error: 'INTERNAL: broken',
  },
];

describe('formatReport', () => {
  it('is an aligned table with notes', () => {
    expect(
      formatReport(REPORT),
    ).toBe(`                accuracy  perplexity   KV cache  prompt tokens  first token          decode  refused
no context         0.0 %           -        0 B           12.5            -  310.5 tokens/s  100.0 %
full text         86.0 %        3.14    1.3 MiB           12.5       4.3 ms  310.5 tokens/s   20.0 %
truncated text    10.0 %        3.14  160.0 KiB           12.5       4.3 ms  310.5 tokens/s   50.0 %
cartridge         70.0 %        3.14  160.0 KiB           12.5       4.3 ms  310.5 tokens/s   25.0 %

70 questions. The cartridge has 64 tokens, the text 516.
The cartridge's KV cache is 8.1 times smaller than that of the full text. Took 42.3 s.
full text: it does not fit the model's context, so only its end was shown.
truncated text: the cartridge is no larger than the framing, so no text was shown.
cartridge: 2 failed; without an answer they count as wrong, without a loss they are left out.
`);
  });

  it('has a column for general questions only where there are some', () => {
    expect(formatReport(REPORT)).not.toContain('general');
    const general = { none: 0.5, full: 0.5, truncated: 0.5, cartridge: 0.75 };
    expect(formatReport({ ...REPORT, general, abstention: {} }).split('\n')[4]).toMatch(/75\.0 %$/);
  });
});

describe('writeReport', () => {
  it('writes the report and every answer, and leaves nothing else behind', async () => {
    await writeReport(join(folder, 'run'), REPORT, ANSWERS);
    expect((await readdir(join(folder, 'run'))).sort()).toEqual(['answers.parquet', 'report.json']);
    expect(JSON.parse(await readFile(join(folder, 'run', 'report.json'), 'utf8'))).toEqual(REPORT);
    expect(await answersIn(join(folder, 'run'))).toEqual([
      {
        condition: 'cartridge',
        set: 'questions',
        id: 'q-1',
        kind: 'fact',
        question: 'Who?',
        answer: 'Benoît',
        reply: 'It was Benoît. 🕰',
        correct: true,
        exact: false,
        abstained: false,
        prompt_tokens: 12,
        time_to_first_token_ms: 1.5,
        decode_tokens_per_second: 200,
        error: null,
        extra: { entity: 'clock', tags: ['a'] },
      },
      expect.objectContaining({ id: 'u-1', kind: null, answer: null, prompt_tokens: null, error: 'INTERNAL: broken', extra: {} }),
    ]);
  });

  it('writes a report without answers', async () => {
    await writeReport(join(folder, 'empty'), REPORT, []);
    expect(await answersIn(join(folder, 'empty'))).toEqual([]);
  });
});

async function answersIn(path: string): Promise<unknown[]> {
  const bytes = await readFile(join(path, 'answers.parquet'));
  return parquetReadObjects({ file: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) });
}

describe('formatBytes', () => {
  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.0 KiB'],
    [1.5 * 2 ** 30, '1.5 GiB'],
    [2 ** 52, '4096.0 TiB'],
  ])('%d is %s', (bytes, expected) => {
    expect(formatBytes(bytes)).toBe(expected);
  });
});
