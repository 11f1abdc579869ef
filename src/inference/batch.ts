import { shareRoom } from './prompt-shares.js';
import type { SequenceContext } from './sequence-context.js';
import type { SequenceRun } from './sequence-run.js';

/** Rows of a batch by what they are for, and prompt tokens that need none because others computed them. */
export interface BatchRows {
  newTokens: number;
  promptTokens: number;
  cachedPromptTokens: number;
}

/**
 * Puts rows into the next batch: one for each run that generates, then unread tokens of the others, in the order of their start
 * or side by side.
 */
export function collectBatch(
  context: SequenceContext,
  runs: readonly SequenceRun[],
  { sideBySide }: { sideBySide: boolean },
): BatchRows {
  let newTokens = 0;
  for (const run of runs) {
    if (run.isGenerating) run.addNewToken(newTokens++);
  }
  const reading = runs.filter((run) => !run.isGenerating);
  const unread = reading.map((run) => run.unreadTokens);
  const shares = sideBySide ? shareRoom(unread, context.batchRows - newTokens) : unread;
  return { newTokens, ...collectPrompts(context, reading, shares, newTokens) };
}

function collectPrompts(
  { batchRows, logitsRows }: SequenceContext,
  reading: readonly SequenceRun[],
  shares: readonly number[],
  newTokens: number,
): Omit<BatchRows, 'newTokens'> {
  let rows = newTokens;
  let wanted = newTokens;
  let cachedPromptTokens = 0;
  for (const [index, run] of reading.entries()) {
    const room = Math.min(batchRows - rows, shares[index] as number);
    const cachedTokens = room > 0 ? run.attach() : undefined;
    if (cachedTokens === undefined) continue;
    const added = run.addTokens(rows, room, logitsRows - wanted);
    rows += added.rows;
    wanted += added.logitsRows;
    cachedPromptTokens += cachedTokens;
  }
  return { promptTokens: rows - newTokens, cachedPromptTokens };
}
