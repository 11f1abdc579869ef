import { describe, expect, it } from 'vitest';
import { evaluateCondition } from './condition-eval.js';
import type { Question } from './questions.js';

const question = (id: string, more: Partial<Question> = {}): Question => ({
  id,
  question: id,
  answer: 'red',
  accept: [],
  extra: {},
  ...more,
});

const subject = {
  condition: 'full' as const,
  kvBytes: 1024,
  cut: true,
  scorer: {
    conversationLikelihood: async () => ({ sum: 4 * Math.log(3), tokens: 4 }),
    negativeLogLikelihood: async (asked: string) => ({ sum: asked.includes('A. red') ? Math.log(4) : 0, tokens: 1 }),
  },
  answerer: {
    answer: async ({ id }: Question) => {
      if (id === 'broken') throw new Error('broken');
      return {
        text: id.startsWith('unknown') ? 'I do not know' : 'red',
        promptTokens: 12,
        timeToFirstTokenMs: 2,
        decodeTokensPerSecond: 50,
      };
    },
  },
};

describe('evaluateCondition', () => {
  it('measures all sets and reports', async () => {
    const sets = {
      questions: [
        question('q-1', { choices: ['red', 'green'], kind: 'colour' }),
        question('broken', { choices: ['red', 'blue'], kind: 'other' }),
      ],
      unanswerable: [question('unknown-1', { answer: null }), question('known', { answer: null })],
      general: [question('general-1')],
    };
    const result = await evaluateCondition({ subject, sets, refusals: ['I do not know'] });
    expect(result.report).toEqual({
      accuracy: 0.5,
      exactAccuracy: 0.5,
      byKind: { colour: { questions: 1, accuracy: 1 }, other: { questions: 1, accuracy: 0 } },
      loss: expect.closeTo(Math.log(4)),
      perplexity: expect.closeTo(4),
      kvBytes: 1024,
      promptTokens: 12,
      timeToFirstTokenMs: 2,
      decodeTokensPerSecond: 50,
      cut: true,
      failed: 1,
    });
    expect(result.unanswerable?.abstentionRate).toBe(0.5);
    expect(result.general?.accuracy).toBe(1);
  });

  it('leaves out what was not asked', async () => {
    const result = await evaluateCondition({
      subject: { ...subject, cut: false },
      sets: { questions: [question('q-1')] },
      refusals: [],
    });
    expect(Object.keys(result)).toEqual(['report', 'questions', 'loss']);
    expect(result.report).not.toHaveProperty('byKind');
    expect(result.report).not.toHaveProperty('cut');
    expect(result.report).not.toHaveProperty('failed');
  });
});
