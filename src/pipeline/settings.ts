import { z } from 'zod';
import { parseBytes } from '../core/format-bytes.js';

const count = z.int().min(1);
const share = z.number().min(0).max(1);
const path = z.string().min(1);
const byteSize = z
  .union([z.number(), z.string()])
  .refine((size) => parseBytes(size) !== undefined, 'expected bytes, or a size such as 4GiB');

/** Settings of self-study. */
const synthesisSettings = z.strictObject({
  conversations: count.max(10_000_000).optional().describe('conversations to attempt; chosen from the length of the corpus'),
  concurrency: count.max(4096).default(32).describe('conversations at once; it changes rounding, so it is recorded'),
  temperature: z.number().min(0).max(10).default(0.7).describe('temperature of the questions; answers are greedy'),
  questionMaxTokens: count.max(65_536).optional().describe('longest question'),
  answerMaxTokens: count.max(65_536).optional().describe('longest answer'),
  topLogprobs: z.int().min(0).max(1000).default(20).describe('log-probabilities kept for each answered token'),
  minProbabilityMass: share.gt(0).default(0.99).describe('log-probabilities of a token are cut at this mass'),
  chunkMinTokens: count.optional().describe('shortest piece of the corpus that a conversation is about'),
  chunkMaxTokens: count.optional().describe('longest piece of the corpus that a conversation is about'),
  endRepetition: z.boolean().default(true).describe('end a question or answer that does nothing any more but repeat itself'),
  keepTruncated: z.boolean().optional().describe('keep conversations that were cut by their longest question or answer'),
  minTokenProbability: share
    .optional()
    .describe('leave out answers in which the model gave a token less than this probability: it guessed'),
  keepDuplicates: z.boolean().default(false).describe('keep a question that was asked before'),
  keepRepeated: z.boolean().default(true).describe('keep an answer that another question about the same piece had before'),
});

/** Settings of context distillation. */
const trainingSettings = z.strictObject({
  tokens: count.max(1_000_000).optional().describe('size of the cartridge (p); chosen from the length of the corpus'),
  frozenTokens: z.int().min(0).default(1).describe('rows at the start that are not trained'),
  initializer: z
    .enum(['first-tokens', 'sampled-chunks', 'text', 'matched-random', 'random', 'cartridge'])
    .default('first-tokens')
    .describe('what the rows start from'),
  initializerText: path.optional().describe('file with the text for the initializer `text`; a built-in one without it'),
  initializerCartridge: path.optional().describe('file for the initializer `cartridge`'),
  allowQuantization: z
    .boolean()
    .default(false)
    .describe('let that cartridge be of another quantisation of the model; the receipt records it'),
  steps: count.optional().describe('optimiser steps; chosen from the dataset'),
  learningRate: z.number().gt(0).max(10).optional().describe('peak learning rate; chosen from the tokens a step'),
  warmupSteps: z.int().min(0).optional().describe('steps in which the learning rate rises'),
  decay: z.enum(['cosine', 'linear', 'none']).default('cosine').describe('how the learning rate falls'),
  batchTokens: count.optional().describe('supervised tokens a step'),
  packTokens: count.optional().describe('tokens that run together; more need more memory'),
  loss: z
    .enum(['token-mean', 'entry-mean', 'next-token'])
    .default('token-mean')
    .describe('distillation averaged over tokens or over log-prob entries, or next-token loss'),
  gradientClip: z.number().min(0).default(0).describe('largest norm of the gradient; 0 is no limit'),
  validationShare: share.max(0.5).default(0.1).describe('conversations held out to measure the validation KL'),
  checkpointEverySteps: count.default(50).describe('steps between checkpoints'),
  weightType: z
    .enum(['auto', 'q8_0', 'bf16', 'f16', 'f32'])
    .default('auto')
    .describe('type in which frozen weights are multiplied; auto measures'),
  step: z
    .enum(['auto', 'graph', 'replica'])
    .default('auto')
    .describe('how a step is computed: one graph, or replicas on the cores of a processor; auto measures'),
  workers: z.int().min(0).max(4096).default(0).describe('threads of the replica step; 0 is as many as threads'),
  products: z
    .enum(['auto', 'ggml', 'onednn'])
    .default('auto')
    .describe('library for the products of the replica step; auto measures'),
  memory: byteSize.optional().describe('most memory that training may take, such as 4GiB; chosen from what is free'),
});

/** Settings of an evaluation. */
const evaluationSettings = z.strictObject({
  maxTokens: count.max(65_536).default(64).describe('longest answer'),
  questions: path.optional().describe('JSONL file of questions about the corpus'),
  unanswerable: path.optional().describe('JSONL file of questions that the corpus does not answer'),
  general: path.optional().describe('JSONL file of questions that need no corpus'),
  conversations: path.optional().describe('dataset of conversations that training did not see'),
});

/** Settings of a conversation with a cartridge. */
const chatSettings = z.strictObject({
  maxTokens: count.max(65_536).default(512).describe('longest answer of a chat'),
  temperature: z.number().min(0).max(10).default(0).describe('temperature of the answers of a chat; 0 is greedy'),
});

const namedPaths = z
  .array(z.string().regex(/^[^=]+=.+$/, 'expected name=path'))
  .max(10_000)
  .default([]);

/** Settings of the server. */
const servingSettings = z.strictObject({
  host: z
    .string()
    .min(1)
    .max(255)
    .default('127.0.0.1')
    .describe('address to listen on; one beyond this machine needs serving.keys'),
  port: z.int().min(0).max(65_535).default(8321).describe('port to listen on; 0 takes a free one'),
  modelName: z.string().min(1).max(200).optional().describe('id of the model in the API; the file name without .gguf'),
  cartridges: namedPaths.describe('cartridges by name, each name=path'),
  corpora: namedPaths.describe('texts of named cartridges, each name=path: greedy answers that quote them come faster'),
  dataFolder: path.default('serving').describe('folder for batches, their files, and cartridges that are uploaded or downloaded'),
  cartridgeFolder: path.optional().describe('folder of cartridges; the one in serving.dataFolder'),
  sources: z
    .array(z.enum(['local', 'huggingface', 'wandb']))
    .default(['local'])
    .describe('where a request may have a cartridge fetched from'),
  wandbEntity: z.string().max(256).default('').describe('entity of artifacts that are named without one'),
  wandbProject: z.string().max(256).default('').describe('project of artifacts that are named without one'),
  allowQuantization: z.boolean().default(false).describe('take cartridges of another quantisation of the model'),
  keys: path.optional().describe('file of API keys; cartridges keys add makes one'),
  allowOrigins: z.array(z.string().min(1)).max(100).default([]).describe('origins whose pages may call the server; * is all'),
  contextTokens: count
    .max(1 << 24)
    .optional()
    .describe('cells of the cache, of all users together; chosen from the memory'),
  maxRequests: count.max(256).default(32).describe('answers that are generated at the same time'),
  requestTokens: count
    .max(1 << 20)
    .default(1024)
    .describe('tokens of a usual request with its answer, for the memory plan'),
  keptTurnTokens: z
    .int()
    .min(0)
    .max(1 << 24)
    .optional()
    .describe('cells that finished turns keep in the cache; as many as slow a decode by a fiftieth'),
  storedTurnBytes: z
    .int()
    .min(0)
    .max(2 ** 40)
    .optional()
    .describe('memory for finished turns outside of the cache; an eighth of what is free, at most 4 GiB'),
  queueSize: z.int().min(0).max(100_000).default(128).describe('requests that may wait; more are refused with 429'),
  keyConcurrency: count
    .max(100_000)
    .default(64)
    .describe('requests, and answers, of one key at a time, unless the key says otherwise'),
  keyTokensPerMinute: count.optional().describe('tokens a minute of one key, unless the key says otherwise'),
  maxChoices: count.max(256).default(16).describe('answers to one prompt, `n` of a request'),
  maxAnswers: count.max(4096).default(64).describe('answers to all prompts of a request'),
  maxMessages: count.max(100_000).default(1024).describe('messages of a chat'),
  maxPromptBytes: count
    .max(1 << 28)
    .default(512 << 10)
    .describe('UTF-8 bytes of all texts of a request; nothing else runs while they become tokens'),
  maxPromptTokens: count
    .max(1 << 24)
    .default(1 << 18)
    .describe('token ids of all prompts that come as ids'),
  defaultAnswerTokens: count
    .max(1 << 20)
    .default(1024)
    .describe('longest answer of a request that does not say how long it may be'),
  slowClientSeconds: count.max(3600).default(30).describe('how long the reader of a stream may take nothing'),
  maxUnreadTokens: count
    .max(1 << 20)
    .default(8192)
    .describe('tokens that the reader of a stream may be behind'),
  maxBodyBytes: count
    .max(1 << 30)
    .default(16 << 20)
    .describe('largest body of a request, uploads apart'),
  maxUploadBytes: count
    .max(2 ** 40)
    .default(2 ** 32)
    .describe('largest file that is uploaded'),
  maxUploads: count.max(1000).default(4).describe('uploads of cartridges at the same time'),
  maxCartridges: count.max(1_000_000).default(10_000).describe('cartridges that the server keeps'),
  maxCartridgeBytes: count
    .max(2 ** 50)
    .default(256 * 2 ** 30)
    .describe('all files in the folder of cartridges together'),
  maxBatchFileBytes: count
    .max(2 ** 32)
    .default(200 << 20)
    .describe('largest file of requests for a batch'),
  maxBatchRequests: count.max(10_000_000).default(50_000).describe('requests of one batch'),
  maxUnfinishedBatches: count.max(10_000).default(32).describe('batches of one key that are not finished'),
  maxKeyFiles: count.max(1_000_000).default(1000).describe('files of one key, with those that its batches write'),
  maxKeyBytes: count
    .max(2 ** 50)
    .default(8 * 2 ** 30)
    .describe('all files of one key, with what its batches have written'),
  batchRequests: count.max(256).default(8).describe('requests of batches that are answered at the same time, beside all others'),
  retentionDays: count.max(3650).default(30).describe('how long uploaded files, batches and their results are kept'),
  requestSeconds: count.max(86_400).default(600).describe('longest time of a request with its answer'),
  uploadSeconds: count.max(86_400).default(3600).describe('longest time of an upload or a download'),
  idleSeconds: count.max(3600).default(60).describe('how long a connection without a request is kept'),
  maxConnections: count.max(100_000).default(1024).describe('open connections'),
  drainSeconds: z.int().min(0).max(86_400).default(30).describe('time to finish running requests when the server stops'),
});

/**
 * Every setting with its limits and default. A setting without a default is chosen from the corpus and the model when it is
 * left out. Keys that are not here are refused.
 */
export const settingsSchema = z.strictObject({
  model: path.optional().describe('GGUF file, org/name[:file] on the hub, or pocket'),
  device: path.default('auto').describe('auto, cpu, or the name of a device'),
  threads: z
    .int()
    .min(0)
    .max(4096)
    .default(0)
    .describe('processor threads; 0 is one for each processor, and for answers what tune chose'),
  seed: z.int().min(0).max(0xffff_ffff).default(0).describe('seed of everything random'),
  outputFolder: path.default('runs').describe('folder that gets a folder for each run'),
  minutes: z.number().gt(0).max(100_000).optional().describe('bound of a whole build in minutes'),
  cartridgeType: z.enum(['f32', 'f16', 'bf16']).default('f16').describe('number type of the cartridge file'),
  synthesis: synthesisSettings.prefault({}),
  training: trainingSettings.prefault({}),
  evaluation: evaluationSettings.prefault({}),
  chat: chatSettings.prefault({}),
  serving: servingSettings.prefault({}),
});

/** All settings, defaults filled in. */
export type Settings = z.output<typeof settingsSchema>;
/** Settings as a user writes them: everything may be left out. */
export type SettingsInput = z.input<typeof settingsSchema>;

/**
 * Gives a config file its types.
 *
 * @example
 * // cartridges.config.ts
 * export default defineConfig({ model: 'Qwen/Qwen3-0.6B-GGUF', training: { tokens: 512 } });
 */
export function defineConfig(settings: SettingsInput): SettingsInput {
  return settings;
}
