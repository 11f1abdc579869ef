import { CartridgesError } from '../core/errors.js';
import type { Random } from '../core/random.js';
import type { TrainingExample } from './examples.js';
import type { PackShape } from './pack.js';

/** Which examples a pack will hold, by slot: what is kept of a pack until it is its turn. */
export type PackContents = readonly (readonly TrainingExample[])[];

/** Examples of which the longest come first: enough to fill slots well, few enough that slots differ between epochs. */
const SORTED_EXAMPLES = 128;

/**
 * Deals examples into packs: shuffled by `random` and the longer first among some, each into the fullest slot that still takes it
 * (best fit), slots shuffled again and put side by side until a pack has no slot or no supervised row left. Without `random` the
 * order is kept.
 */
export function dealIntoPacks(examples: readonly TrainingExample[], shape: PackShape, random?: Random): PackContents[] {
  for (const example of examples) checkFits(example, shape);
  const ordered = random ? longestFirst(random.shuffle(examples), SORTED_EXAMPLES) : examples;
  const bins = bestFit(ordered, shape.slotTokens, shape.supervisedRows);
  const packs: TrainingExample[][][] = [];
  let open: TrainingExample[][] = [];
  let supervised = 0;
  for (const bin of random ? random.shuffle(bins) : bins) {
    const rows = supervisedRowsOf(bin);
    if (open.length === shape.slots || supervised + rows > shape.supervisedRows) {
      packs.push(open);
      open = [];
      supervised = 0;
    }
    open.push(bin);
    supervised += rows;
  }
  if (open.length > 0) packs.push(open);
  return packs;
}

/** Share of the tokens of some packs that belong to a conversation. */
export function filledShare(packs: readonly PackContents[], { slots, slotTokens }: PackShape): number {
  const used = packs.flat(2).reduce((sum, { tokens }) => sum + tokens.length, 0);
  return used / (packs.length * slots * slotTokens);
}

/** Sorts each run of `count` examples; equal lengths keep their order. */
function longestFirst(examples: readonly TrainingExample[], count: number): TrainingExample[] {
  const runs: TrainingExample[][] = [];
  for (let first = 0; first < examples.length; first += count) runs.push(examples.slice(first, first + count));
  return runs.flatMap((run) => run.sort((a, b) => b.tokens.length - a.tokens.length));
}

/** Slots of examples that fit together; a slot's supervised tokens alone must fit a pack. */
function bestFit(examples: readonly TrainingExample[], slotTokens: number, supervisedRows: number): TrainingExample[][] {
  const bins: { free: number; rows: number; examples: TrainingExample[] }[] = [];
  // Slots by the room they have left: a new example looks only where it can fit.
  const byFree: Set<(typeof bins)[number]>[] = Array.from({ length: slotTokens + 1 }, () => new Set());
  for (const example of examples) {
    const length = example.tokens.length;
    let bin: (typeof bins)[number] | undefined;
    for (let free = length; free <= slotTokens && !bin; free++) {
      for (const candidate of byFree[free]!) {
        if (candidate.rows + example.rows.length > supervisedRows) continue;
        bin = candidate;
        break;
      }
    }
    if (bin) {
      byFree[bin.free]!.delete(bin);
    } else {
      bin = { free: slotTokens, rows: 0, examples: [] };
      bins.push(bin);
    }
    bin.examples.push(example);
    bin.free -= length;
    bin.rows += example.rows.length;
    byFree[bin.free]!.add(bin);
  }
  return bins.map((bin) => bin.examples);
}

function checkFits(example: TrainingExample, shape: PackShape): void {
  if (
    example.tokens.length <= shape.slotTokens &&
    example.rows.length <= shape.supervisedRows &&
    example.entriesPerRow <= shape.entriesPerRow
  )
    return;
  throw new CartridgesError(
    'INTERNAL',
    `a conversation of ${example.tokens.length} tokens does not fit slots of ${shape.slotTokens}`,
  );
}

function supervisedRowsOf(examples: readonly TrainingExample[]): number {
  return examples.reduce((sum, example) => sum + example.rows.length, 0);
}
