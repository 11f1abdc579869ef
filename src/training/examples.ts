import { checkSparseLogprobs } from '../core/sparse-logprobs.js';
import type { ChatFraming } from '../models/chat-framing.js';
import type { Conversation } from '../self-study/conversation.js';

/** A conversation as a training step reads it: tokens, and teacher entries for the supervised ones. */
export interface TrainingExample {
  id: string;
  tokens: Int32Array;
  /** For each supervised token the index of the token that predicts it, rising. */
  rows: Int32Array;
  /** Entries of supervised token i are `rowEnds[i − 1]` (0 for the first) up to `rowEnds[i]`. */
  rowEnds: Int32Array;
  tokenIds: Int32Array;
  /** Natural-log probabilities of the teacher. */
  logprobs: Float32Array;
  /** The most entries that one supervised token has. */
  entriesPerRow: number;
}

export interface ExampleOptions {
  /** `distillation` learns the teacher's distribution, `next-token` the answered tokens alone. */
  targets: 'distillation' | 'next-token';
  /** Longer conversations are cut here. */
  maxTokens: number;
  vocabularySize: number;
}

export interface ExampleSet {
  examples: TrainingExample[];
  /** Conversations without anything to learn from: no assistant tokens, or none with log-probs. */
  unsupervised: number;
  cut: number;
}

/**
 * Frames conversations as the student reads them and attaches their targets. Only assistant tokens are supervised, the end
 * of the turn included. Throws `INVALID_DATASET` for log-probs that do not belong to their tokens.
 */
export function makeExamples(conversations: readonly Conversation[], framing: ChatFraming, options: ExampleOptions): ExampleSet {
  const set: ExampleSet = { examples: [], unsupervised: 0, cut: 0 };
  for (const conversation of conversations) {
    const example = makeExample(conversation, framing, options);
    if (example.tokens.length > options.maxTokens) set.cut++;
    const fitting = cutExample(example, options.maxTokens);
    if (fitting.rows.length > 0) set.examples.push(fitting);
    else set.unsupervised++;
  }
  return set;
}

function makeExample(conversation: Conversation, framing: ChatFraming, options: ExampleOptions): TrainingExample {
  const { tokens, supervised } = framing.encodeConversation(conversation.messages);
  const rows: number[] = [];
  const rowEnds: number[] = [];
  const tokenIds: number[] = [];
  const logprobs: number[] = [];
  for (const { start, end, messageIndex } of supervised) {
    if (options.targets === 'next-token') {
      for (let position = start; position < end; position++) {
        rows.push(position - 1);
        tokenIds.push(tokens[position]!);
        logprobs.push(0);
        rowEnds.push(tokenIds.length);
      }
      continue;
    }
    const teacher = conversation.messages[messageIndex]!.topLogprobs;
    if (!teacher) continue;
    checkSparseLogprobs(teacher, options.vocabularySize, `conversation ${conversation.id}`);
    for (let entry = 0; entry < teacher.tokenIndex.length; entry++) {
      const row = start + teacher.tokenIndex[entry]! - 1;
      if (row + 1 >= end) break;
      tokenIds.push(teacher.tokenId[entry]!);
      logprobs.push(teacher.logprob[entry]!);
      if (rows.at(-1) === row) rowEnds[rowEnds.length - 1] = tokenIds.length;
      else {
        rows.push(row);
        rowEnds.push(tokenIds.length);
      }
    }
  }
  return {
    id: conversation.id,
    tokens,
    rows: Int32Array.from(rows),
    rowEnds: Int32Array.from(rowEnds),
    tokenIds: Int32Array.from(tokenIds),
    logprobs: Float32Array.from(logprobs),
    entriesPerRow: widestRow(rowEnds),
  };
}

function cutExample(example: TrainingExample, maxTokens: number): TrainingExample {
  if (example.tokens.length <= maxTokens) return example;
  // A row at the last kept token would predict a token that is cut off.
  const count = example.rows.findIndex((row) => row + 1 >= maxTokens);
  const rows = count < 0 ? example.rows : example.rows.slice(0, count);
  const rowEnds = example.rowEnds.slice(0, rows.length);
  const entries = rowEnds.at(-1) ?? 0;
  return {
    id: example.id,
    tokens: example.tokens.slice(0, maxTokens),
    rows,
    rowEnds,
    tokenIds: example.tokenIds.slice(0, entries),
    logprobs: example.logprobs.slice(0, entries),
    entriesPerRow: widestRow(rowEnds),
  };
}

function widestRow(rowEnds: ArrayLike<number>): number {
  let widest = 0;
  for (let i = 0; i < rowEnds.length; i++) widest = Math.max(widest, rowEnds[i]! - (i === 0 ? 0 : rowEnds[i - 1]!));
  return widest;
}
