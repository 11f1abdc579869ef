import { Random } from '../../src/core/random.js';
import type { TrainingExample } from '../../src/training/examples.js';
import type { Pack, PackShape } from '../../src/training/pack.js';
import { packExamples } from '../../src/training/packing.js';

const ENTRIES = 3;

/** A conversation of random tokens, the second half of them supervised by three classes each. */
function randomExample(id: string, tokenCount: number, vocabularySize: number, random: Random): TrainingExample {
  const supervised = Math.max(1, Math.floor(tokenCount / 2));
  const stride = Math.floor(vocabularySize / ENTRIES);
  const tokenIds: number[] = [];
  for (let row = 0; row < supervised; row++) {
    const first = random.integer(vocabularySize);
    for (let entry = 0; entry < ENTRIES; entry++) tokenIds.push((first + entry * stride) % vocabularySize);
  }
  return {
    id,
    tokens: Int32Array.from({ length: tokenCount }, () => random.integer(vocabularySize)),
    rows: Int32Array.from({ length: supervised }, (_, index) => tokenCount - supervised + index - 1),
    rowEnds: Int32Array.from({ length: supervised }, (_, index) => (index + 1) * ENTRIES),
    tokenIds: Int32Array.from(tokenIds),
    logprobs: Float32Array.from(tokenIds, () => Math.log(0.1 + 0.2 * random.uniform())),
    entriesPerRow: ENTRIES,
  };
}

/** Conversations of the given lengths, packed in this order. */
export function randomPacks(lengths: readonly number[], shape: PackShape, vocabularySize: number): Pack[] {
  const random = new Random(7);
  return packExamples(
    lengths.map((length, index) => randomExample(String(index), length, vocabularySize, random)),
    shape,
  );
}
