import { z } from 'zod';
import { CartridgesError } from '../core/errors.js';

const count = z.int().min(1);

/** Settings of a synthesis and their defaults. All of them are recorded, and a dataset belongs to exactly one set of them. */
const synthesisSettingsSchema = z.strictObject({
  /** Conversations that are attempted; filters make the dataset smaller. */
  conversations: count.max(10_000_000),
  /** Conversations that run at once. It changes how the engine rounds, and so the dataset. */
  concurrency: count.max(4096).default(16),
  seed: z.int().min(0).max(0xffff_ffff).default(0),
  /** Conversations in a row on the same chunk and system message, whose prompt the engine then computes once. */
  questionsPerChunk: count.default(8),
  /** Role A samples its question at this temperature. */
  temperatureA: z.number().min(0).max(10).default(0.7),
  maxTokensA: count.default(256),
  /** Role B answers greedily. */
  maxTokensB: count.default(512),
  /** Log-probs recorded for each answered token; 0 records none. */
  topLogprobs: z.int().min(0).max(1000).default(20),
  /** Log-probs of a token are cut once they reach this probability. */
  minProbabilityMass: z.number().gt(0).max(1).default(0.99),
  /** Drop a question asked before about the same chunk, or about any chunk, or keep it. */
  duplicates: z.enum(['chunk', 'corpus', 'keep']).default('chunk'),
  /** Keep an answer that another question about the same chunk already had. */
  keepRepeated: z.boolean().default(true),
  /** Keep conversations with an empty question or answer. */
  keepEmpty: z.boolean().default(false),
  /** Keep conversations whose question or answer was cut by its token limit, or ended because it only repeated itself. */
  keepTruncated: z.boolean().default(false),
  /** Drop an answer in which the teacher gave a token less than this probability: it guessed. 0 drops none. Needs log-probs. */
  minTokenProbability: z.number().min(0).max(1).default(0),
  /** End a question or answer that only repeats itself, in place of going on to its token limit. */
  endRepetition: z.boolean().default(true),
  /** A shard is this many whole groups of `concurrency` conversations; without it, as many as have 64 conversations. */
  groupsPerShard: count.optional(),
});

export type SynthesisSettings = z.output<typeof synthesisSettingsSchema> & { groupsPerShard: number };
export type SynthesisSettingsInput = z.input<typeof synthesisSettingsSchema>;

const CONVERSATIONS_PER_SHARD = 64;

/** Fills in defaults. Throws `INVALID_OPTION` that names the first setting that is wrong. */
export function resolveSynthesisSettings(input: SynthesisSettingsInput): SynthesisSettings {
  const result = synthesisSettingsSchema.safeParse(input);
  if (result.success) {
    const groupsPerShard = result.data.groupsPerShard ?? Math.ceil(CONVERSATIONS_PER_SHARD / result.data.concurrency);
    return { ...result.data, groupsPerShard };
  }
  const issue = result.error.issues[0] as z.core.$ZodIssue;
  throw new CartridgesError('INVALID_OPTION', `synthesis setting ${issue.path.join('.')}: ${issue.message}`);
}
