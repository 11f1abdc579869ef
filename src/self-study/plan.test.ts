import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Chunk } from '../corpus/resource.js';
import { planConversations, systemPrompt } from './plan.js';
import { BUILT_IN_PROMPTS } from './seed-prompts.js';

const makeChunks = (count: number): Chunk[] =>
  Array.from({ length: count }, (_, n) => ({
    id: `${n}`,
    documentId: 'd',
    text: `text ${n}`,
    start: 0,
    end: 1,
    contentHash: '',
  }));

describe('planConversations', () => {
  it('covers every chunk evenly, whatever the numbers', () => {
    const numbers = fc.record({
      conversations: fc.integer({ min: 1, max: 200 }),
      questionsPerChunk: fc.integer({ min: 1, max: 9 }),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(numbers, fc.integer({ min: 1, max: 30 }), (settings, chunkCount) => {
        const plan = planConversations(makeChunks(chunkCount), BUILT_IN_PROMPTS, settings);
        expect(plan.map(({ index }) => index)).toEqual(Array.from({ length: settings.conversations }, (_, n) => n));
        const counts = new Map(makeChunks(chunkCount).map(({ id }) => [id, 0]));
        for (const { chunk } of plan) counts.set(chunk.id, (counts.get(chunk.id) as number) + 1);
        expect(Math.max(...counts.values()) - Math.min(...counts.values())).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('shares the system message within a run, and mixes chunks, kinds and seeds', () => {
    const plan = planConversations(makeChunks(10), BUILT_IN_PROMPTS, { conversations: 200, questionsPerChunk: 4, seed: 3 });
    for (let start = 0; start < plan.length; start += 4) {
      expect(new Set(plan.slice(start, start + 4).map(systemPrompt)).size).toBe(1);
    }
    expect(new Set(plan.map(({ kind }) => kind)).size).toBe(5);
    expect(new Set(plan.map(({ samplingSeed }) => samplingSeed)).size).toBe(200);
    expect(new Set(plan.slice(0, 40).map(({ chunk }) => chunk.id)).size).toBe(10);
    expect(plan.slice(0, 40).map(({ chunk }) => chunk.id)).not.toEqual(plan.slice(40, 80).map(({ chunk }) => chunk.id));
  });

  it('draws kinds by their weights', () => {
    const seedWeights = { question: 3, use_case: 1, summarization: 0, structuring: 0, creative: 0 };
    const settings = { conversations: 400, questionsPerChunk: 4, seed: 3 };
    const plan = planConversations(makeChunks(10), { ...BUILT_IN_PROMPTS, seedWeights }, settings);
    const questions = plan.filter(({ kind }) => kind === 'question').length;
    expect(new Set(plan.map(({ kind }) => kind))).toEqual(new Set(['question', 'use_case']));
    expect(questions / 400).toBeCloseTo(0.75, 1);
  });
});
