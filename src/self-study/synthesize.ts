import type { ChatClient } from '../chat/chat-client.js';
import { CartridgesError } from '../core/errors.js';
import { sha256Json } from '../core/hashing.js';
import type { RunOptions } from '../core/progress.js';
import type { Chunk } from '../corpus/resource.js';
import type { Conversation } from './conversation.js';
import { type Outcome, runGroup } from './conversation-group.js';
import { DatasetWriter, type ShardSummary } from './dataset/dataset-writer.js';
import { type DatasetCounts, type DatasetRecipe, sumCounts } from './dataset/manifest.js';
import { readShard } from './dataset/open-dataset.js';
import { type PlannedConversation, planConversations } from './plan.js';
import type { PromptSet } from './seed-prompts.js';
import { resolveSynthesisSettings, type SynthesisSettings, type SynthesisSettingsInput } from './synthesis-settings.js';
import { TextOwners } from './text-owners.js';

export interface SynthesizeOptions extends RunOptions {
  /** The dataset is written here. A folder with shards of the same synthesis is continued. */
  folder: string;
  chunks: readonly Chunk[];
  prompts: PromptSet;
  client: ChatClient;
  settings: SynthesisSettingsInput;
  /** Describes model, tokenizer and framing behind `client`; recorded, and compared on resume. JSON without machine paths. */
  teacher: Record<string, unknown>;
  /** Describes what computes the answers, where that is known; compared only while the dataset grows. */
  computation?: Record<string, unknown>;
}

export interface SynthesisReport extends DatasetCounts {
  folder: string;
  shards: number;
  /** Conversations that an earlier, interrupted run had attempted. */
  resumedAt: number;
  /** Of this run. */
  seconds: number;
}

/**
 * The reason of an abort by which a progress listener ends a synthesis: what there is, is enough. It then returns with whole
 * groups, and its dataset is not complete. The same call continues behind them.
 */
export const ENOUGH = Symbol('enough');

/** So many conversations that fail one after the other mean that the client is broken, not the conversations. */
const MAXIMUM_FAILURES_IN_A_ROW = 20;

/** Failures that a shard's entry in the manifest describes; all are counted. */
const RECORDED_FAILURES = 20;

/**
 * Self-study: role A asks about a chunk, role B answers with the chunk in sight, and the answer's log-probs are recorded.
 * For the same settings, chunks, prompts and client answers the dataset is byte-equal, whatever the timing and however often
 * the run was interrupted.
 *
 * Throws `SETTINGS_CHANGED` when the folder holds another synthesis, `CANCELLED` after an abort, and `DISK_FULL`; finished
 * shards stay, and the same call continues behind them.
 *
 * @example
 * const report = await synthesize({ folder: 'notes.dataset', chunks, prompts, client, settings: { conversations: 512 }, teacher });
 */
export async function synthesize(options: SynthesizeOptions): Promise<SynthesisReport> {
  const settings = resolveSynthesisSettings(options.settings);
  checkRequest(options, settings);
  const startedAt = performance.now();
  const writer = await DatasetWriter.open(options.folder, describeRecipe(options, settings));
  const resumedAt = writer.manifest.counts.attempted;
  const { conversations } = settings;
  const message = resumedAt > 0 ? `resuming at conversation ${resumedAt} of ${conversations}` : `${conversations} conversations`;
  options.onProgress?.({ kind: 'start', stage: 'synthesize', message, total: conversations });

  await runShards(options, settings, writer);
  if (writer.manifest.counts.attempted === conversations) await writer.finish();

  const seconds = (performance.now() - startedAt) / 1000;
  const { counts, shards } = writer.manifest;
  options.onProgress?.({ kind: 'end', stage: 'synthesize', message: describeCounts(counts, settings), seconds });
  return { ...counts, folder: options.folder, shards: shards.length, resumedAt, seconds };
}

function checkRequest({ chunks, client }: SynthesizeOptions, { topLogprobs }: SynthesisSettings): void {
  if (chunks.length === 0) throw new CartridgesError('CORPUS_EMPTY', 'there is no text to ask about');
  if (topLogprobs <= client.capabilities.topLogprobs) return;
  const message = `${topLogprobs} log-probs a token are wanted and the model's server gives ${client.capabilities.topLogprobs}`;
  throw new CartridgesError('INVALID_OPTION', message, { hint: 'ask for fewer log-probs, or use another server' });
}

function describeRecipe(
  { chunks, prompts, teacher, computation = {} }: SynthesizeOptions,
  settings: SynthesisSettings,
): DatasetRecipe {
  return {
    settings,
    teacher,
    computation,
    prompts: { hash: sha256Json(prompts) },
    chunks: { count: chunks.length, hash: sha256Json(chunks.map(({ id, contentHash }) => [id, contentHash])) },
  };
}

/** Runs what the manifest has not attempted yet, shard by shard. */
async function runShards(options: SynthesizeOptions, settings: SynthesisSettings, writer: DatasetWriter): Promise<void> {
  const { onProgress, signal } = options;
  const owners = await restoreOwners(writer, settings, signal);
  const plan = planConversations(options.chunks, options.prompts, settings);
  const groups = toGroups(plan.slice(writer.manifest.counts.attempted), settings.concurrency);
  const failures = new FailureStreak();
  const startedAt = performance.now();
  let answerTokens = 0;
  for (let start = 0; start < groups.length; start += settings.groupsPerShard) {
    const shard = groups.slice(start, start + settings.groupsPerShard);
    const outcomes: Outcome[] = [];
    let finishedGroups = 0;
    for (const group of shard) {
      const finished = await runGroup(group, { client: options.client, settings, ...owners, signal });
      outcomes.push(...finished);
      finishedGroups++;
      for (const outcome of finished) failures.add(outcome, options);
      const counts = sumCounts([writer.manifest.counts, countOutcomes(outcomes)]);
      answerTokens += countOutcomes(finished).answerTokens;
      const values = {
        kept: counts.kept,
        failed: counts.failed,
        tokensPerSecond: (1000 * answerTokens) / (performance.now() - startedAt),
      };
      onProgress?.({ kind: 'progress', stage: 'synthesize', done: counts.attempted, total: settings.conversations, values });
      if (signal?.reason === ENOUGH) break;
    }
    await writer.appendShard(keptConversations(outcomes), summarize(outcomes, finishedGroups));
    if (signal?.reason === ENOUGH) return;
  }
}

/** What the conversations of finished shards asked and answered: all that later groups need to know of them. */
async function restoreOwners(writer: DatasetWriter, settings: SynthesisSettings, signal?: AbortSignal) {
  const questions = new TextOwners(settings.duplicates === 'corpus' ? 'corpus' : 'chunk');
  const answers = new TextOwners('chunk');
  for (const shard of writer.manifest.shards) {
    for await (const { id, messages, metadata } of readShard(writer.folder, shard, signal)) {
      const [question, answer] = messages;
      questions.claim(String(metadata.chunkId), question.content, Number(id));
      answers.claim(String(metadata.chunkId), answer.content, Number(id));
    }
  }
  return { questions, answers };
}

function toGroups(plan: readonly PlannedConversation[], concurrency: number): PlannedConversation[][] {
  const groups: PlannedConversation[][] = [];
  for (let start = 0; start < plan.length; start += concurrency) groups.push(plan.slice(start, start + concurrency));
  return groups;
}

/** Reports what failed for good, and gives up when nothing succeeds any more. */
class FailureStreak {
  #length = 0;

  add({ planned, error }: Outcome, { onProgress }: SynthesizeOptions): void {
    this.#length = error ? this.#length + 1 : 0;
    if (!error) return;
    onProgress?.({ kind: 'warning', stage: 'synthesize', message: `conversation ${planned.index} failed: ${error.message}` });
    if (this.#length < MAXIMUM_FAILURES_IN_A_ROW) return;
    throw new CartridgesError(error.code, `${this.#length} conversations in a row failed, the last with: ${error.message}`, {
      hint: error.hint ?? 'finished shards are kept; run the same command again to continue',
      cause: error,
    });
  }
}

function keptConversations(outcomes: readonly Outcome[]): Conversation[] {
  return outcomes.flatMap(({ conversation }) => conversation ?? []);
}

function summarize(outcomes: readonly Outcome[], groups: number): ShardSummary {
  const failures = outcomes.flatMap(({ planned, error }) =>
    error ? [{ conversation: planned.index, code: error.code, message: error.message }] : [],
  );
  return { groups, counts: countOutcomes(outcomes), failures: failures.slice(0, RECORDED_FAILURES) };
}

function countOutcomes(outcomes: readonly Outcome[]): DatasetCounts {
  const kept = keptConversations(outcomes);
  const flawed = (flaw: Outcome['flaw']) => outcomes.filter((outcome) => !outcome.error && outcome.flaw === flaw).length;
  return {
    attempted: outcomes.length,
    kept: kept.length,
    duplicate: flawed('duplicate'),
    empty: flawed('empty'),
    truncated: flawed('truncated'),
    unsure: flawed('unsure'),
    repeated: flawed('repeated'),
    failed: outcomes.filter(({ error }) => error).length,
    answerTokens: kept.reduce((sum, { messages }) => sum + (messages[1].tokenIds?.length ?? 0), 0),
  };
}

/** Which flaws were left out and which were kept follows from the settings. */
function describeCounts({ attempted, kept, answerTokens: _, ...flaws }: DatasetCounts, settings: SynthesisSettings): string {
  const { duplicates, keepEmpty, keepTruncated, keepRepeated } = settings;
  const keptKinds: Readonly<Record<string, boolean>> = {
    duplicate: duplicates === 'keep',
    empty: keepEmpty,
    truncated: keepTruncated,
    repeated: keepRepeated,
  };
  const list = (areKept: boolean) => {
    const found = Object.entries(flaws).filter(([what, count]) => count > 0 && (keptKinds[what] ?? false) === areKept);
    const counts = found.map(([what, count]) => `${count} ${what}`).join(', ');
    return found.length === 0 ? [] : `${areKept ? 'kept' : 'left out'}: ${counts}`;
  };
  const details = [list(false), list(true)].flat().join('; ');
  return `kept ${kept} of ${attempted} conversations${details === '' ? '' : ` (${details})`}`;
}
