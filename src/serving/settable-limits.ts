import type { Settings } from '../pipeline/settings.js';
import { type BatchLimits, DEFAULT_BATCH_LIMITS } from './batches/batch-limits.js';
import { DEFAULT_LIBRARY_LIMITS, type LibraryLimits } from './cartridges/library-limits.js';
import { type AnswerLimits, DEFAULT_ANSWER_LIMITS } from './openai/answer-limits.js';

/**
 * The limits of a server, with what its settings say. What no setting says is fixed: OpenAI's own limits (stop texts,
 * log-probs), and what bounds the work of a single request.
 */

type ServingSettings = Settings['serving'];

export function answerLimits(serving: ServingSettings): AnswerLimits {
  const { maxChoices, maxAnswers, maxMessages, maxPromptBytes, maxPromptTokens } = serving;
  const { defaultAnswerTokens, slowClientSeconds, maxUnreadTokens } = serving;
  return {
    ...DEFAULT_ANSWER_LIMITS,
    maxChoices,
    maxAnswers,
    maxMessages,
    maxPromptBytes,
    maxPromptTokens,
    defaultAnswerTokens,
    slowClientSeconds,
    maxUnreadTokens,
  };
}

export function batchLimits(serving: ServingSettings): BatchLimits {
  return {
    ...DEFAULT_BATCH_LIMITS,
    maxFileBytes: serving.maxBatchFileBytes,
    maxFiles: serving.maxKeyFiles,
    maxKeyBytes: serving.maxKeyBytes,
    maxRequests: serving.maxBatchRequests,
    maxUnfinishedBatches: serving.maxUnfinishedBatches,
    concurrentRequests: serving.batchRequests,
    retentionDays: serving.retentionDays,
  };
}

export function libraryLimits(serving: ServingSettings): LibraryLimits {
  return {
    ...DEFAULT_LIBRARY_LIMITS,
    maxFileBytes: serving.maxUploadBytes,
    maxFolderBytes: serving.maxCartridgeBytes,
    maxCartridges: serving.maxCartridges,
    maxUploads: serving.maxUploads,
    uploadSeconds: serving.uploadSeconds,
    downloadSeconds: serving.uploadSeconds,
  };
}
