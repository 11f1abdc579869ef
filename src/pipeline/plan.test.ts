import fc from 'fast-check';
import { expect, test } from 'vitest';
import { affordableConversations, type BuildSpeed, planSynthesis, planTokenCount, synthesisShare } from './plan.js';
import { resolveSettings } from './resolve-settings.js';

test('the default size leaves half of the context free', () => {
  expect(planTokenCount(1_000_000, resolveSettings(), 2_048)).toBe(1_024);
  expect(planTokenCount(1_000_000, resolveSettings(), 32_768)).toBe(2_048);
  expect(planTokenCount(1_000_000, resolveSettings(), 300)).toBe(150);
});

test('the default size has room for the framing and some text', () => {
  expect(planTokenCount(20, resolveSettings(), 2_048)).toBe(16);
  expect(planTokenCount(20, resolveSettings(), 2_048, 30)).toBe(48);
});

test('a size that is asked for must leave room for a question and an answer', () => {
  const plan = (tokens: number, contextLength: number) =>
    planTokenCount(1000, resolveSettings({ training: { tokens } }), contextLength, 30);
  expect([plan(2, 2_048), plan(1_792, 2_048), plan(100, 200)]).toEqual([2, 1_792, 100]);
  const overflow = expect.objectContaining({ code: 'CONTEXT_OVERFLOW', hint: 'use --tokens 1792 or fewer' });
  expect(() => plan(1_793, 2_048)).toThrow(overflow);
  expect(() => plan(101, 200)).toThrow(/leaves no room for a question and an answer in a context of 200/);
});

test('as many conversations as the length of the text, the model and the settings ask for', () => {
  const planned = (corpusTokens: number, recommended = {}, synthesis = {}) =>
    planSynthesis(corpusTokens, resolveSettings({ synthesis }), { answerMaxTokens: 40, ...recommended }).conversations;
  expect(planned(10)).toBe(256);
  expect(planned(900)).toBe(1_200);
  expect(planned(900, { answeredTokensPerCorpusToken: 48 })).toBe(3_600);
  expect(planned(900, { answeredTokensPerCorpusToken: 48 }, { conversations: 7 })).toBe(7);
  expect(planned(1e8)).toBe(65_536);
});

test('answers are judged by how sure the model was where it, or a setting, says so', () => {
  const planned = (recommended: object, synthesis = {}) =>
    planSynthesis(900, resolveSettings({ synthesis }), recommended).minTokenProbability;
  expect([planned({}), planned({ minTokenProbability: 0.5 })]).toEqual([0, 0.5]);
  expect(planned({ minTokenProbability: 0.5 }, { minTokenProbability: 0.1 })).toBe(0.1);
});

/** SmolLM2-135M on two cores. */
const speed: BuildSpeed = {
  secondsPerConversation: 4,
  tokensPerConversation: 150,
  secondsPerToken: 0.008,
};

test('a long time limit is used up by conversations and three passes over them', () => {
  const conversations = affordableConversations(3600, 10_000, speed);
  expect(conversations).toBe(426);
  expect(conversations * (4 + 3 * 150 * 0.008)).toBeGreaterThan(0.89 * 3600);
  expect(affordableConversations(3600, 300, speed)).toBe(300);
});

test('a short one leaves training less than its passes, but self-study a third', () => {
  expect(affordableConversations(600, 10_000, speed)).toBe(52);
});

test('self-study that becomes slower may take what the planned training leaves, but a third in any case', () => {
  expect(synthesisShare(3600, 426, speed)).toBeCloseTo(1 - (426 * 3 * 150 * 0.008) / 3600);
  expect(synthesisShare(36_000, 100, speed)).toBeCloseTo(1 - (100_000 * 0.008) / 36_000);
  expect(synthesisShare(600, 52, speed)).toBe(0.35);
  expect(synthesisShare(3600, 315, { ...speed, secondsPerToken: undefined })).toBe(0.35);
});

test('where training could not be measured, self-study has a third', () => {
  expect(affordableConversations(3600, 10_000, { ...speed, secondsPerToken: undefined })).toBe(315);
});

test('what is planned fits, or is the least', () => {
  const positive = (max: number) => fc.double({ min: 0.001, max, noNaN: true });
  const speeds = fc.record({
    secondsPerConversation: positive(60),
    tokensPerConversation: positive(500),
    secondsPerToken: positive(1),
  });
  fc.assert(
    fc.property(positive(10_000), speeds, (seconds, each) => {
      const count = affordableConversations(seconds, 100_000, each);
      const seen = Math.max(3 * count * each.tokensPerConversation, 100_000);
      const needed = count * each.secondsPerConversation + seen * each.secondsPerToken;
      const least = (0.35 * seconds) / each.secondsPerConversation;
      expect(needed <= 0.9 * seconds * (1 + 1e-9) || count <= least).toBe(true);
    }),
  );
});
