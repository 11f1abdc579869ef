import { Random } from '../core/random.js';
import type { Chunk } from '../corpus/resource.js';
import { fillTemplate, type PromptSet, type SeedKind } from './seed-prompts.js';
import type { SynthesisSettings } from './synthesis-settings.js';

/** Everything about a conversation that is known before the first request. */
export interface PlannedConversation {
  index: number;
  chunk: Chunk;
  kind: SeedKind;
  seedPrompt: string;
  systemTemplate: string;
  /** Seed of role A's sampling. */
  samplingSeed: number;
}

/** The system message that both roles see. */
export function systemPrompt({ systemTemplate, chunk }: PlannedConversation): string {
  return fillTemplate(systemTemplate, chunk.text);
}

/**
 * Draws all conversations from the seed. Every chunk gets the same number of them, give or take one; they come in runs of
 * `questionsPerChunk` on one chunk and one system template, and the order of the runs is shuffled.
 */
export function planConversations(
  chunks: readonly Chunk[],
  prompts: PromptSet,
  settings: Pick<SynthesisSettings, 'conversations' | 'questionsPerChunk' | 'seed'>,
): PlannedConversation[] {
  const random = new Random(settings.seed);
  const kinds = random.fork('seed kinds');
  const wordings = random.fork('wordings');
  const templates = random.fork('system templates');
  const plan: PlannedConversation[] = [];
  for (const run of drawRuns(chunks.length, settings, random.fork('chunks'))) {
    const systemTemplate = templates.pick(prompts.systemTemplates);
    for (let n = 0; n < run.conversations; n++) {
      const index = plan.length;
      const kind = kinds.pickWeighted(prompts.seedWeights);
      const seedPrompt = wordings.pick(prompts.seedPrompts[kind]);
      const samplingSeed = random.fork(`conversation ${index}`).integer(2 ** 31);
      plan.push({ index, chunk: chunks[run.chunk] as Chunk, kind, seedPrompt, systemTemplate, samplingSeed });
    }
  }
  return plan;
}

/** Rounds over all chunks that still need conversations, each round in a new order. */
function* drawRuns(
  chunkCount: number,
  { conversations, questionsPerChunk }: Pick<SynthesisSettings, 'conversations' | 'questionsPerChunk'>,
  random: Random,
): Iterable<{ chunk: number; conversations: number }> {
  const indices = Array.from({ length: chunkCount }, (_, chunk) => chunk);
  const remaining = new Int32Array(chunkCount).fill(Math.floor(conversations / chunkCount));
  for (const chunk of random.shuffle(indices).slice(0, conversations % chunkCount)) remaining[chunk]++;
  while (remaining.some((count) => count > 0)) {
    for (const chunk of random.shuffle(indices)) {
      const count = Math.min(remaining[chunk], questionsPerChunk);
      remaining[chunk] -= count;
      if (count > 0) yield { chunk, conversations: count };
    }
  }
}
