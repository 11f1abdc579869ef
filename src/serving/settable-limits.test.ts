import { expect, it } from 'vitest';
import { resolveSettings } from '../pipeline/resolve-settings.js';
import { DEFAULT_BATCH_LIMITS } from './batches/batch-limits.js';
import { DEFAULT_LIBRARY_LIMITS } from './cartridges/library-limits.js';
import { DEFAULT_ANSWER_LIMITS } from './openai/answer-limits.js';
import { answerLimits, batchLimits, libraryLimits } from './settable-limits.js';

it('the limits of a server without settings are the defaults', () => {
  const { serving } = resolveSettings();
  expect(answerLimits(serving)).toEqual(DEFAULT_ANSWER_LIMITS);
  expect(batchLimits(serving)).toEqual(DEFAULT_BATCH_LIMITS);
  expect(libraryLimits(serving)).toEqual(DEFAULT_LIBRARY_LIMITS);
});

it('each setting reaches its limit', () => {
  const { serving } = resolveSettings({
    serving: {
      maxChoices: 2,
      maxAnswers: 3,
      maxMessages: 4,
      maxPromptBytes: 5,
      maxPromptTokens: 6,
      defaultAnswerTokens: 7,
      slowClientSeconds: 8,
      maxUnreadTokens: 9,
      maxUploads: 10,
      maxCartridges: 11,
      maxCartridgeBytes: 12,
      maxBatchFileBytes: 13,
      maxBatchRequests: 14,
      maxUnfinishedBatches: 15,
      maxKeyFiles: 16,
      maxKeyBytes: 17,
    },
  });
  expect(answerLimits(serving)).toEqual({
    ...DEFAULT_ANSWER_LIMITS,
    maxChoices: 2,
    maxAnswers: 3,
    maxMessages: 4,
    maxPromptBytes: 5,
    maxPromptTokens: 6,
    defaultAnswerTokens: 7,
    slowClientSeconds: 8,
    maxUnreadTokens: 9,
  });
  expect(libraryLimits(serving)).toEqual({ ...DEFAULT_LIBRARY_LIMITS, maxUploads: 10, maxCartridges: 11, maxFolderBytes: 12 });
  expect(batchLimits(serving)).toEqual({
    ...DEFAULT_BATCH_LIMITS,
    maxFileBytes: 13,
    maxRequests: 14,
    maxUnfinishedBatches: 15,
    maxFiles: 16,
    maxKeyBytes: 17,
  });
});

it.each<[object, string, string]>([
  [{ maxChoises: 4 }, 'UNKNOWN_OPTION', 'serving.maxChoices'],
  [{ maxChoices: 0 }, 'INVALID_OPTION', 'serving.maxChoices'],
  [{ slowClientSeconds: 1.5 }, 'INVALID_OPTION', 'serving.slowClientSeconds'],
  [{ maxChoices: 65 }, 'INVALID_OPTION', 'serving.maxChoices'],
  [{ maxAnswers: 8 }, 'INVALID_OPTION', 'serving.maxAnswers'],
])('%j is refused', (serving, code, setting) => {
  let refusal: { code?: string; message?: string; hint?: string } = {};
  try {
    resolveSettings({ serving } as never);
  } catch (error) {
    refusal = error as typeof refusal;
  }
  expect(refusal.code).toBe(code);
  expect(`${refusal.message} ${refusal.hint}`).toContain(setting);
});
