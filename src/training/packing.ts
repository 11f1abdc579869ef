import { CartridgesError } from '../core/errors.js';
import type { Random } from '../core/random.js';
import type { TrainingExample } from './examples.js';
import type { Pack, PackShape } from './pack.js';

/** Slot sizes that a step may be built for. */
const SLOT_SIZES = [32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096] as const;

/**
 * Chooses the shape of packs for a set of examples: slots that hold the longest example and a few of the usual ones, as many
 * as fit `packTokens`, room for the supervised tokens of a full pack with a quarter to spare.
 */
export function choosePackShape(examples: readonly TrainingExample[], packTokens: number): PackShape {
  const lengths = examples.map((example) => example.tokens.length);
  const longest = Math.max(...lengths, 1);
  const mean = lengths.reduce((sum, length) => sum + length, 0) / Math.max(lengths.length, 1);
  // Three usual examples in a slot leave little of it empty.
  const wanted = Math.max(longest, Math.min(3 * mean, packTokens));
  const slotTokens = SLOT_SIZES.find((size) => size >= wanted) ?? longest;
  const slots = Math.max(1, Math.round(packTokens / slotTokens));
  const supervised = examples.reduce((sum, example) => sum + example.rows.length, 0);
  const share =
    supervised /
    Math.max(
      lengths.reduce((sum, length) => sum + length, 0),
      1,
    );
  const largest = Math.max(...examples.map((example) => example.rows.length), 1);
  const supervisedRows = Math.min(slots * slotTokens, Math.max(largest, Math.ceil(slots * slotTokens * share * 1.25)));
  return { slots, slotTokens, supervisedRows, entriesPerRow: Math.max(...examples.map((example) => example.entriesPerRow), 1) };
}

/** The shape of {@link choosePackShape}, and smaller ones that still hold every example, for when memory is short. */
export function packShapes(examples: readonly TrainingExample[], packTokens: number): [PackShape, ...PackShape[]] {
  const shapes: [PackShape, ...PackShape[]] = [choosePackShape(examples, packTokens)];
  const tokensOf = ({ slots, slotTokens }: PackShape) => slots * slotTokens;
  for (let tokens = packTokens / 2; tokens >= 1; tokens /= 2) {
    const shape = choosePackShape(examples, tokens);
    if (tokensOf(shape) < tokensOf(shapes.at(-1)!)) shapes.push(shape);
  }
  return shapes;
}

/** Which examples a pack will hold, by slot: what is kept of a pack until it is its turn. */
export type PackContents = readonly (readonly TrainingExample[])[];

/**
 * Deals examples into packs: shuffled by `random`, each into the fullest slot that still takes it (best fit), slots shuffled
 * again and put side by side until a pack has no slot or no supervised row left. Without `random` the order is kept.
 */
export function dealIntoPacks(examples: readonly TrainingExample[], shape: PackShape, random?: Random): PackContents[] {
  for (const example of examples) checkFits(example, shape);
  const bins = bestFit(random ? random.shuffle(examples) : examples, shape.slotTokens, shape.supervisedRows);
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

/** All packs of some examples at once, dealt as by {@link dealIntoPacks}. */
export function packExamples(examples: readonly TrainingExample[], shape: PackShape, random?: Random): Pack[] {
  return dealIntoPacks(examples, shape, random).map((contents) => fillPack(contents, shape));
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

/** Lays out a pack for a step. */
export function fillPack(slots: PackContents, shape: PackShape): Pack {
  const { slotTokens, supervisedRows, entriesPerRow } = shape;
  const tokenCount = shape.slots * slotTokens;
  const pack: Pack = {
    shape,
    tokens: new Int32Array(tokenCount),
    positions: new Int32Array(tokenCount),
    segments: new Int32Array(tokenCount).fill(-1),
    rows: new Int32Array(supervisedRows),
    tokenIds: new Int32Array(supervisedRows * entriesPerRow),
    weights: new Float32Array(supervisedRows * entriesPerRow),
    supervisedTokens: 0,
    entries: 0,
    weightedLogprobSum: 0,
    conversations: 0,
  };
  slots.forEach((examples, slot) => {
    let at = slot * slotTokens;
    examples.forEach((example, segment) => {
      addExample(pack, example, at, segment);
      at += example.tokens.length;
    });
  });
  fillUnusedIds(pack);
  return pack;
}

function addExample(pack: Pack, example: TrainingExample, at: number, segment: number): void {
  const { entriesPerRow } = pack.shape;
  pack.tokens.set(example.tokens, at);
  pack.segments.fill(segment, at, at + example.tokens.length);
  for (let i = 0; i < example.tokens.length; i++) pack.positions[at + i] = i;
  let entry = 0;
  example.rows.forEach((row, index) => {
    const target = pack.supervisedTokens++;
    pack.rows[target] = at + row;
    const end = example.rowEnds[index]!;
    for (let slot = target * entriesPerRow; entry < end; entry++, slot++) {
      const logprob = example.logprobs[entry]!;
      const probability = Math.exp(logprob);
      pack.tokenIds[slot] = example.tokenIds[entry]!;
      pack.weights[slot] = probability;
      if (probability > 0) pack.weightedLogprobSum += probability * logprob;
      pack.entries++;
    }
  });
  pack.conversations++;
}

/** Ids of one row must differ, also where there is no entry: unused entries take the smallest ids that the row does not have. */
function fillUnusedIds(pack: Pack): void {
  const { supervisedRows, entriesPerRow } = pack.shape;
  for (let row = 0; row < supervisedRows; row++) {
    const ids = pack.tokenIds.subarray(row * entriesPerRow, (row + 1) * entriesPerRow);
    const weights = pack.weights.subarray(row * entriesPerRow, (row + 1) * entriesPerRow);
    const used = new Set<number>();
    ids.forEach((id, index) => {
      if (weights[index]! > 0) used.add(id);
    });
    let candidate = 0;
    ids.forEach((_, index) => {
      if (weights[index]! > 0) return;
      while (used.has(candidate)) candidate++;
      ids[index] = candidate++;
    });
  }
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
