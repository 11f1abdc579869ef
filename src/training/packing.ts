import { Random } from '../core/random.js';
import type { TrainingExample } from './examples.js';
import { fillPack } from './fill-pack.js';
import type { Pack, PackShape } from './pack.js';
import { dealIntoPacks, filledShare } from './pack-contents.js';

/** Slots are multiples of this, and of so many sizes to the double: a step is built for one of few shapes. */
const SLOT_MULTIPLE = 16;
const SIZES_AN_OCTAVE = 16;
/** Slots that are larger than wanted, because conversations are, hold so many of the longest one at most. */
const LONGEST_IN_SLOT = 2;
/** Fuller packs are not worth another shape: an epoch that is dealt differently varies by as much. */
const ENOUGH_FILL = 0.96;
/** Examples that shapes are tried with. */
const TRIED_EXAMPLES = 1_024;
/** Room for supervised tokens, in those of a usual pack: a pack of few conversations that run out of it stays half empty. */
const SUPERVISED_ROOM = 1.5;

/**
 * Chooses the shape of packs for a set of examples, by packing them. Of the shapes that are filled well it is the one whose packs
 * are nearest to `packTokens`: no larger where the longest example leaves the choice, at most two of those where it does not.
 * Where none is filled well, the fullest. It follows from the conversations alone, so that every run on them has the same packs.
 */
export function choosePackShape(examples: readonly TrainingExample[], packTokens: number): PackShape {
  return chooseUpTo(examples, packTokens, Math.max(packTokens, LONGEST_IN_SLOT * smallestSlot(examples)));
}

/** The shape of {@link choosePackShape}, and smaller ones that still hold every example, for when memory is short. */
export function packShapes(examples: readonly TrainingExample[], packTokens: number): [PackShape, ...PackShape[]] {
  const shapes: [PackShape, ...PackShape[]] = [choosePackShape(examples, packTokens)];
  for (let tokens = tokensOf(shapes[0]) / 2; tokens >= 1; tokens /= 2) {
    const shape = chooseUpTo(examples, Math.min(packTokens, tokens), tokens);
    if (tokensOf(shape) < tokensOf(shapes.at(-1)!)) shapes.push(shape);
  }
  return shapes;
}

/** All packs of some examples at once, dealt as by {@link dealIntoPacks}. */
export function packExamples(examples: readonly TrainingExample[], shape: PackShape, random?: Random): Pack[] {
  return dealIntoPacks(examples, shape, random).map((contents) => fillPack(contents, shape));
}

interface Candidate {
  shape: PackShape;
  fill: number;
}

/** The best shape with up to `mostTokens`, or the one that just holds the longest example. */
function chooseUpTo(examples: readonly TrainingExample[], packTokens: number, mostTokens: number): PackShape {
  const tried = examples.slice(0, TRIED_EXAMPLES);
  const candidates = slotSizes(smallestSlot(examples), mostTokens).map((slotTokens): Candidate => {
    const shape = shapeOf(examples, slotTokens, Math.max(1, Math.floor(packTokens / slotTokens)));
    return { shape, fill: filledShare(dealIntoPacks(tried, shape, new Random(0)), shape) };
  });
  const distance = ({ shape }: Candidate) => Math.abs(packTokens - tokensOf(shape));
  const full = candidates.filter(({ fill }) => fill >= ENOUGH_FILL);
  // A sort keeps the order of equals: smaller slots spend less attention on what the mask hides.
  const [best] = full.length > 0 ? full.sort((a, b) => distance(a) - distance(b)) : candidates.sort((a, b) => b.fill - a.fill);
  return best!.shape;
}

/** The sizes from `smallest`, which is always one, up to `most`. */
function slotSizes(smallest: number, most: number): number[] {
  const sizes: number[] = [];
  let size = smallest;
  do {
    sizes.push(size);
    const step = Math.max(SLOT_MULTIPLE, 2 ** Math.floor(Math.log2(size)) / SIZES_AN_OCTAVE);
    size = (Math.floor(size / step) + 1) * step;
  } while (size <= most);
  return sizes;
}

/** With room for the supervised tokens of a full pack, and some to spare. */
function shapeOf(examples: readonly TrainingExample[], slotTokens: number, slots: number): PackShape {
  const largest = (of: (example: TrainingExample) => number) =>
    examples.reduce((most, example) => Math.max(most, of(example)), 1);
  const sum = (of: (example: TrainingExample) => number) => examples.reduce((total, example) => total + of(example), 0);
  const supervised = ({ rows }: TrainingExample) => rows.length;
  const share =
    sum(supervised) /
    Math.max(
      1,
      sum(({ tokens }) => tokens.length),
    );
  const usual = Math.ceil(slots * slotTokens * share * SUPERVISED_ROOM);
  const supervisedRows = Math.min(slots * slotTokens, Math.max(largest(supervised), usual));
  return { slots, slotTokens, supervisedRows, entriesPerRow: largest(({ entriesPerRow }) => entriesPerRow) };
}

/** Tokens of the smallest slot that holds the longest example. */
function smallestSlot(examples: readonly TrainingExample[]): number {
  const longest = examples.reduce((most, { tokens }) => Math.max(most, tokens.length), 1);
  return Math.ceil(longest / SLOT_MULTIPLE) * SLOT_MULTIPLE;
}

function tokensOf({ slots, slotTokens }: PackShape): number {
  return slots * slotTokens;
}
