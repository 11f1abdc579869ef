import { describe, expect, it } from 'vitest';
import type { ProgressEvent } from '../core/progress.js';
import { type AnsweredQuestion, evaluateGeneration } from './generation-eval.js';
import type { Question } from './questions.js';

const ASKED: Question[] = [
  { id: 'a', question: 'Colour?', answer: 'red', accept: [], kind: 'fact', extra: {} },
  { id: 'b', question: 'Year?', answer: '1871', accept: [], kind: 'number', extra: {} },
  { id: 'c', question: 'Name?', answer: 'Ilse', accept: [], kind: 'fact', extra: {} },
];

function scripted(replies: Record<string, AnsweredQuestion | Error>) {
  return {
    answer: async ({ id }: Question) => {
      const reply = replies[id] as AnsweredQuestion | Error;
      if (reply instanceof Error) throw reply;
      return reply;
    },
  };
}

const REPLIES = {
  a: { text: 'It is red.', promptTokens: 10, timeToFirstTokenMs: 5, decodeTokensPerSecond: 100 },
  b: { text: 'I do not know.', promptTokens: 20, timeToFirstTokenMs: 1, decodeTokensPerSecond: 300 },
  c: { text: 'ilse', promptTokens: 60, timeToFirstTokenMs: 3 },
};

const BASE = { questions: ASKED, refusals: ['I do not know'], name: 'no context' };

describe('evaluateGeneration', () => {
  it('scores, averages and keeps every answer in order', async () => {
    const result = await evaluateGeneration({ ...BASE, answerer: scripted(REPLIES) });
    expect(result).toMatchObject({
      questions: 3,
      failed: 0,
      accuracy: 2 / 3,
      exactAccuracy: 1 / 3,
      abstentionRate: 1 / 3,
      byKind: { fact: { questions: 2, accuracy: 1 }, number: { questions: 1, accuracy: 0 } },
      promptTokens: 30,
      timeToFirstTokenMs: 3,
      decodeTokensPerSecond: 200,
    });
    expect(result.rows.map(({ question, reply }) => [question.id, reply])).toEqual([
      ['a', 'It is red.'],
      ['b', 'I do not know.'],
      ['c', 'ilse'],
    ]);
  });

  it('counts a failed question as wrong and reports it', async () => {
    const events: ProgressEvent[] = [];
    const answerer = scripted({ ...REPLIES, a: new Error('out of luck') });
    const result = await evaluateGeneration({ ...BASE, answerer, onProgress: (event) => events.push(event) });
    expect(result).toMatchObject({ failed: 1, accuracy: 1 / 3, promptTokens: 40 });
    expect(result.rows[0]).toMatchObject({ correct: false, reply: '', error: 'INTERNAL: out of luck' });
    expect(events.filter(({ kind }) => kind === 'warning').map(({ message }) => message)).toEqual([
      'question a failed (no context): out of luck',
    ]);
    expect(events.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['start', 'progress', 'end']));
    expect(events.filter(({ kind }) => kind === 'progress')).toHaveLength(3);
  });

  it('asks everything at once', async () => {
    let waiting = 0;
    let release = () => {};
    const all = new Promise<void>((resolve) => {
      release = resolve;
    });
    const answer = async () => {
      if (++waiting === ASKED.length) release();
      await all;
      return { text: '', promptTokens: 1 };
    };
    const result = await evaluateGeneration({ ...BASE, answerer: { answer } });
    expect(result).toMatchObject({ accuracy: 0, timeToFirstTokenMs: null });
  });

  it('ends with CANCELLED when it is aborted, before or while it asks', async () => {
    const controller = new AbortController();
    const answer = async () => {
      controller.abort();
      throw new Error('interrupted');
    };
    const options = { ...BASE, answerer: { answer }, signal: controller.signal };
    await expect(evaluateGeneration(options)).rejects.toMatchObject({ code: 'CANCELLED' });
    await expect(evaluateGeneration({ ...BASE, answerer: scripted(REPLIES), signal: controller.signal })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
  });

  it('gives nulls for no questions', async () => {
    expect(await evaluateGeneration({ ...BASE, questions: [], answerer: scripted({}) })).toMatchObject({
      questions: 0,
      accuracy: null,
      promptTokens: null,
    });
  });
});
