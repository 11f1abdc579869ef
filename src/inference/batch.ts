import { shareRoom } from './prompt-shares.js';
import type { SequenceContext } from './sequence-context.js';
import type { SequenceRun } from './sequence-run.js';

/** Rows of a batch by what they are for, and prompt tokens that need none because others computed them. */
export interface BatchRows {
  newTokens: number;
  draftedTokens: number;
  promptTokens: number;
  cachedPromptTokens: number;
}

/**
 * Puts rows into the next batch: one for each run that generates, with its draft behind it, then unread tokens of the others, in
 * the order of their start or side by side.
 */
export function collectBatch(
  context: SequenceContext,
  runs: readonly SequenceRun[],
  { sideBySide, rowCost }: { sideBySide: boolean; rowCost: (sequences: number) => number },
): BatchRows {
  const generating = runs.filter((run) => run.isGenerating);
  const reading = runs.filter((run) => !run.isGenerating);
  const newTokens = generating.length;
  const draftedTokens = collectNewTokens(generating, draftRoom(context, runs.length), rowCost(newTokens));
  const rows = newTokens + draftedTokens;
  const unread = reading.map((run) => run.unreadTokens);
  const shares = sideBySide ? shareRoom(unread, context.batchRows - rows) : unread;
  return { newTokens, draftedTokens, ...collectPrompts(context, reading, shares, rows) };
}

/** Rows of one decode for drafts: every run can have a row with logits, whatever the others draft. */
export function draftRoom({ batchRows, logitsRows }: SequenceContext, runs: number): number {
  return Math.max(0, Math.min(batchRows, logitsRows) - runs);
}

/** The room for drafts is shared evenly; what one does not need goes to those behind it. Returns how many tokens are drafted. */
function collectNewTokens(runs: readonly SequenceRun[], room: number, rowCost: number): number {
  let drafted = 0;
  for (const [index, run] of runs.entries()) {
    const share = Math.floor((room - drafted) / (runs.length - index));
    drafted += run.addNewTokens(index + drafted, share, rowCost) - 1;
  }
  return drafted;
}

function collectPrompts(
  { batchRows, logitsRows }: SequenceContext,
  reading: readonly SequenceRun[],
  shares: readonly number[],
  rowsBefore: number,
): Pick<BatchRows, 'promptTokens' | 'cachedPromptTokens'> {
  let rows = rowsBefore;
  let wanted = rowsBefore;
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
  return { promptTokens: rows - rowsBefore, cachedPromptTokens };
}
