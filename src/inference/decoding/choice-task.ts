import type { MessagePort } from 'node:worker_threads';
import { Sampler } from '../sampler.js';
import { type ChoiceRule, chooseToken, type TokenChoice } from '../token-choice.js';
import type { TopCandidates } from '../top-logprobs.js';
import type { LogitsMemory } from './logits-memory.js';
import type { RowClaims, RowRange } from './row-claims.js';

/** Logits behind which a token is chosen, and how. */
export interface ChoiceRow {
  /** Where they begin in memory. */
  logits: bigint;
  rule: ChoiceRule;
}

/** Rows whose tokens several threads choose. */
export interface ChoiceTask extends RowRange {
  rows: readonly ChoiceRow[];
  vocabularySize: number;
}

/** What one thread chose of a task; undefined where the logits are not finite. */
export interface ChoiceShare {
  start: number;
  choices: readonly { index: number; choice: TokenChoice | undefined }[];
}

/** What a thread that helps to choose is asked for, and what it answers. */
export interface ChoiceRequests {
  /** Takes rows of the tasks that come by the port, and sends what it chose. */
  help: { request: { port: MessagePort; claims: SharedArrayBuffer }; answer: object };
}

/**
 * Logits of all rows, from which on several threads choose: one takes 1.7 ms for so many with log-probs and 0.4 without, two of them 1.2
 * and 0.4 (Zen 4).
 */
const SHARED_LOGITS = 1 << 19;

export function isShared(rows: number, vocabularySize: number): boolean {
  return rows * vocabularySize >= SHARED_LOGITS;
}

/** Chooses behind the rows of a task that no other thread has taken, and delivers the choices before the rows count as finished. */
export function chooseUnclaimed(
  task: ChoiceTask,
  claims: RowClaims,
  memory: LogitsMemory,
  candidates: TopCandidates,
  deliver: (share: ChoiceShare) => void,
): void {
  const choices: { index: number; choice: TokenChoice | undefined }[] = [];
  let claimed = 0;
  try {
    for (let index = claims.claim(task); index !== undefined; index = claims.claim(task)) {
      claimed++;
      choices.push({ index, choice: chooseBehind(task.rows[index]!, memory, candidates) });
    }
    if (claimed > 0) deliver({ start: task.start, choices });
  } finally {
    // Also when it failed: who waits for the rows must not wait for ever.
    claims.finish(claimed);
  }
}

export function chooseBehind(
  { logits, rule }: ChoiceRow,
  memory: LogitsMemory,
  candidates: TopCandidates,
): TokenChoice | undefined {
  return chooseToken(memory.at(logits), new Sampler(rule.sampling, rule.random), rule.topLogprobs, candidates);
}
