import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { questionPrompt, readQuestions } from './questions.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'questions-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function file(content: string | Uint8Array): Promise<string> {
  const path = join(folder, 'questions.jsonl');
  await writeFile(path, content);
  return path;
}

const line = (value: unknown) => `${JSON.stringify(value)}\n`;
const MINIMAL = { question: 'Who?', answer: 'Ilse' };

describe('readQuestions', () => {
  it('reads every field and keeps those that it does not know', async () => {
    const full = {
      id: 7,
      ...MINIMAL,
      accept: ['Ms Varn'],
      reference: 'It is Ilse.',
      kind: 'fact',
      choices: ['Ilse', 'Tobin'],
      entity: 'x',
      source: null,
    };
    expect(await readQuestions(await file(line(full)))).toEqual([
      { ...full, id: '7', entity: undefined, source: undefined, extra: { entity: 'x', source: null } },
    ]);
  });

  it('fills in what may be left out, and skips empty lines and a byte order mark', async () => {
    const nulls = { ...MINIMAL, accept: null, reference: null, kind: null, choices: null };
    expect(await readQuestions(await file(`\uFEFF\r\n${line(MINIMAL)}  \n${line(nulls)}`))).toEqual([
      { id: 'line-2', ...MINIMAL, accept: [], extra: {} },
      { id: 'line-4', ...MINIMAL, accept: [], extra: {} },
    ]);
  });

  it('lets only unanswerable questions lack an answer', async () => {
    const path = await file(line({ question: 'Why?', answer: null }) + line({ question: 'How?' }));
    expect((await readQuestions(path, { unanswerable: true })).map(({ answer }) => answer)).toEqual([null, null]);
    await expect(readQuestions(path)).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(/line 1: answer is missing/),
    });
  });

  it.each([
    ['no JSON', `${line(MINIMAL)}{"question"`, /questions\.jsonl, line 2: is not JSON/],
    ['no object', line([1]), /line 1: the line: .*expected object/],
    ['no question', line({ answer: 'x' }), /line 1: question: /],
    ['an empty question', line({ question: ' ', answer: 'x' }), /question: is empty/],
    ['a number as an answer', line({ question: 'Q', answer: 7 }), /answer: .*expected string/],
    ['an empty answer', line({ question: 'Q', answer: ' ' }), /answer is empty/],
    ['an empty accepted answer', line({ ...MINIMAL, accept: ['x', ''] }), /accept\.1: is empty/],
    ['an answer beside the choices', line({ ...MINIMAL, choices: ['Tobin', 'Ash'] }), /none of the choices/],
    ['a single choice', line({ ...MINIMAL, choices: ['Ilse'] }), /choices/],
    [
      'an id twice',
      line({ id: 'a', ...MINIMAL }) + line({ id: 'a', ...MINIMAL }),
      /line 2: the id "a" is already that of line 1/,
    ],
    ['an endless question', line({ question: 'x'.repeat(100_001), answer: 'x' }), /line 1: question/],
    ['nothing', '\n \n', /holds no question/],
    ['no text', Uint8Array.of(0xff, 0xfe, 0x00), /not UTF-8/],
  ])('refuses %s', async (_name, content, message) => {
    await expect(readQuestions(await file(content))).rejects.toMatchObject({
      code: 'INVALID_INPUT',
      message: expect.stringMatching(message),
    });
  });

  it('refuses too many questions and too large a file', async () => {
    await expect(readQuestions(await file(line(1).repeat(100_001)))).rejects.toMatchObject({
      message: expect.stringContaining('more than 100000'),
    });
    await expect(readQuestions(await file(new Uint8Array((64 << 20) + 1)))).rejects.toMatchObject({
      message: expect.stringContaining('64 MiB'),
    });
  });

  it('names a file that does not exist', async () => {
    await expect(readQuestions(join(folder, 'none.jsonl'))).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
  });

  it('answers any line with questions or with a named error', async () => {
    const odd = fc.oneof(
      fc.json(),
      fc.record({ id: fc.jsonValue(), question: fc.jsonValue(), answer: fc.jsonValue(), choices: fc.jsonValue() }).map(line),
    );
    await fc.assert(
      fc.asyncProperty(odd, async (content) => {
        const result = await readQuestions(await file(content)).catch((error) => error.code);
        expect(result === 'INVALID_INPUT' || result.length === 1).toBe(true);
      }),
      { numRuns: 50 },
    );
  });
});

describe('questionPrompt', () => {
  it('lists choices by letter', () => {
    expect(questionPrompt({ question: 'Which?' })).toBe('Which?');
    expect(questionPrompt({ question: 'Which?', choices: ['red', 'green'] })).toBe('Which?\nA. red\nB. green');
  });
});
