import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { cacheFolder } from '../core/environment.js';
import { keep, readKept } from '../core/json-cache.js';
import type { LanguageModel } from '../inference/language-model.js';
import { ENGINE_VERSION } from '../native/engine.js';

const tuningSchema = z.strictObject({
  threads: z.int().min(1).max(1024),
  decodeThreads: z.int().min(1).max(1024),
  batchTokens: z.int().min(1).max(8192),
  flashAttention: z.boolean(),
  cacheType: z.enum(['f16', 'bf16', 'f32']),
  extraBuffers: z.boolean(),
  /** What libllama computes with: the weights as the model's file has them, or a copy of them in Q8_0. */
  weights: z.enum(['stored', 'q8_0']),
});

/**
 * A decode of a smaller model is so short that more threads would mostly wait for each other. Two are 1.1 to 1.6 times as fast as
 * one for the pocket model on two cores, and take up to four times as long when another program has one of the cores.
 */
const SMALL_MODEL = { bytes: 32 << 20, threads: 2 };

/** Settings of libllama that were measured to be the fastest for a model on this machine. */
export type EngineTuning = z.output<typeof tuningSchema>;

/**
 * The tuning that `cartridges tune` kept for a model, named by the hash of its weights, on this processor and engine; undefined
 * without one. A damaged file counts as none: it only costs speed.
 */
export async function readTuning(weightsHash: string): Promise<EngineTuning | undefined> {
  const parsed = tuningSchema.safeParse(await readKept(tuningPath(), keyOf(weightsHash)));
  return parsed.success ? parsed.data : undefined;
}

/** Keeps a tuning; returns the path of its file. */
export async function writeTuning(weightsHash: string, tuning: EngineTuning): Promise<string> {
  await keep(tuningPath(), keyOf(weightsHash), tuning);
  return tuningPath();
}

/** Threads that an engine takes where nothing was measured and nobody said how many. */
export function standardThreads({
  byteLength,
  threads,
  usesGpu,
}: Pick<LanguageModel, 'byteLength' | 'threads' | 'usesGpu'>): number {
  return isSmall({ byteLength }) && !usesGpu ? Math.min(threads, SMALL_MODEL.threads) : threads;
}

/** Whether there is little for a tuning to win. */
export function isSmall({ byteLength }: Pick<LanguageModel, 'byteLength'>): boolean {
  return byteLength < SMALL_MODEL.bytes;
}

function tuningPath(): string {
  return join(cacheFolder(), 'engine-tunings.json');
}

function keyOf(weightsHash: string): string {
  const engine = `${ENGINE_VERSION.llama}/${ENGINE_VERSION.ggml}`;
  return [engine, cpus()[0]?.model ?? process.arch, availableParallelism(), weightsHash].join('|');
}
