import { describe, expect, it } from 'vitest';
import type { ProgressEvent } from '../core/progress.js';
import type { Conversation } from '../self-study/conversation.js';
import { evaluateConversationLoss, evaluateLoss } from './loss-eval.js';
import type { Question } from './questions.js';

const ASKED: Question[] = [
  { id: 'a', question: 'Colour?', answer: 'red', accept: [], reference: 'It is red.', extra: {} },
  { id: 'b', question: 'Year?', answer: '1871', accept: [], extra: {} },
  { id: 'c', question: 'Why?', answer: null, accept: [], extra: {} },
];

const LOSSES: Record<string, { sum: number; tokens: number }> = {
  'It is red.': { sum: 8 * Math.log(2), tokens: 4 },
  '1871': { sum: 2 * Math.log(2), tokens: 1 },
};

const scorer = {
  negativeLogLikelihood: async (_question: string, reference: string) => LOSSES[reference] as { sum: number; tokens: number },
};

describe('evaluateLoss', () => {
  it('takes the token mean over references, or answers where there is none', async () => {
    const result = await evaluateLoss({ questions: ASKED, scorer, name: 'no context' });
    expect(result).toMatchObject({ tokens: 5, skipped: 1, failed: [] });
    expect(result.loss).toBeCloseTo(2 * Math.log(2));
    expect(result.perplexity).toBeCloseTo(4);
    expect(result.rows.map(({ id, tokens }) => [id, tokens])).toEqual([
      ['a', 4],
      ['b', 1],
    ]);
  });

  it('asks with the prompt of the question', async () => {
    const asked: string[] = [];
    const listening = {
      negativeLogLikelihood: async (question: string) => {
        asked.push(question);
        return { sum: 1, tokens: 1 };
      },
    };
    await evaluateLoss({ questions: ASKED, scorer: listening, prompt: ({ id }) => `prompt ${id}`, name: 'no context' });
    expect(asked).toEqual(['prompt a', 'prompt b']);
  });

  it('counts and tells what could not be scored', async () => {
    const events: ProgressEvent[] = [];
    const broken = {
      negativeLogLikelihood: async (_question: string, reference: string) => {
        if (reference === '1871') throw new Error('no room');
        return { sum: Number.NaN, tokens: 3 };
      },
    };
    const result = await evaluateLoss({
      questions: ASKED,
      scorer: broken,
      name: 'full text',
      onProgress: (event) => events.push(event),
    });
    expect(result).toMatchObject({ loss: null, perplexity: null, tokens: 0, failed: ['a', 'b'], skipped: 1 });
    const warnings = events.filter(({ kind }) => kind === 'warning').map(({ message }) => message);
    expect(warnings.sort()).toEqual([
      'question a could not be scored (full text): its loss is NaN',
      'question b could not be scored (full text): no room',
    ]);
  });

  it('ends with CANCELLED when it is aborted', async () => {
    await expect(evaluateLoss({ questions: ASKED, scorer, name: 'x', signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
  });
});

describe('evaluateConversationLoss', () => {
  const conversations: Conversation[] = ['1', '2', '3'].map((id) => ({
    id,
    messages: [
      { role: 'user', content: 'Who?' },
      { role: 'assistant', content: `Keeper ${id}.` },
    ],
    systemPrompt: '',
    type: 'question',
    metadata: { seedPrompt: '' },
  }));

  it('takes the token mean over what was scored, and counts the rest', async () => {
    const conversationScorer = {
      conversationLikelihood: async ({ id }: Conversation) => {
        if (id === '2') throw new Error('no room');
        return { sum: Number(id) * Math.log(4), tokens: 2 };
      },
    };
    const result = await evaluateConversationLoss({ conversations, scorer: conversationScorer, name: 'cartridge' });
    expect(result).toMatchObject({ tokens: 4, failed: ['2'], skipped: 0 });
    expect(result.perplexity).toBeCloseTo(4);
    expect(result.rows.map(({ id }) => id)).toEqual(['1', '3']);
  });
});
