import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { cacheFolder } from '../core/environment.js';
import { writeJsonAtomic } from '../core/files.js';
import { ENGINE_VERSION } from '../native/engine.js';

const tuningSchema = z.strictObject({
  threads: z.int().min(1).max(1024),
  decodeThreads: z.int().min(1).max(1024),
  batchTokens: z.int().min(1).max(8192),
  flashAttention: z.boolean(),
  cacheType: z.enum(['f16', 'bf16', 'f32']),
  extraBuffers: z.boolean(),
});

/** Settings of libllama that were measured to be the fastest for a model on this machine. */
export type EngineTuning = z.output<typeof tuningSchema>;

/**
 * The tuning that `cartridges tune` kept for a model, named by the hash of its weights, on this processor and engine; undefined
 * without one. A damaged file counts as none: it only costs speed.
 */
export async function readTuning(weightsHash: string): Promise<EngineTuning | undefined> {
  const parsed = tuningSchema.safeParse((await readAll())[keyOf(weightsHash)]);
  return parsed.success ? parsed.data : undefined;
}

/** Keeps a tuning; returns the path of its file. */
export async function writeTuning(weightsHash: string, tuning: EngineTuning): Promise<string> {
  await writeJsonAtomic(tuningPath(), { ...(await readAll()), [keyOf(weightsHash)]: tuning });
  return tuningPath();
}

function tuningPath(): string {
  return join(cacheFolder(), 'engine-tunings.json');
}

async function readAll(): Promise<Record<string, unknown>> {
  try {
    const content: unknown = JSON.parse(await readFile(tuningPath(), 'utf8'));
    return typeof content === 'object' && content !== null ? (content as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function keyOf(weightsHash: string): string {
  const engine = `${ENGINE_VERSION.llama}/${ENGINE_VERSION.ggml}`;
  return [engine, cpus()[0]?.model ?? process.arch, availableParallelism(), weightsHash].join('|');
}
