import { Random } from '../../src/core/random.js';
import type { ModelConfig } from '../../src/models/model-config.js';
import type { TrainingExample } from '../../src/training/examples.js';
import type { Pack, PackShape } from '../../src/training/pack.js';
import { packExamples } from '../../src/training/packing.js';
import type { TrainingStep } from '../../src/training/training-step.js';

const TEACHER_ENTRIES = 20;
const LEARNING_RATE = 2e-3;

/** What a training child is started with: `MODEL PREFIX SLOTS SLOT_TOKENS THREADS [PRODUCTS]`. */
export interface TrainingArguments {
  modelPath: string;
  prefixTokens: number;
  slots: number;
  slotTokens: number;
  threads: number;
  products: string | undefined;
}

export function readTrainingArguments(): TrainingArguments {
  const [modelPath, prefixTokens, slots, slotTokens, threads, products] = process.argv.slice(2);
  const [p, s, t, n] = [prefixTokens, slots, slotTokens, threads].map(Number) as [number, number, number, number];
  return { modelPath: modelPath!, prefixTokens: p, slots: s, slotTokens: t, threads: n, products };
}

/** `slots` conversations in packs of `slotsOfPack`, every token supervised. */
export function benchPacks(
  config: ModelConfig,
  { slots, slotTokens }: Pick<TrainingArguments, 'slots' | 'slotTokens'>,
  slotsOfPack: number,
): { shape: PackShape; packs: Pack[] } {
  const random = new Random(1);
  const supervisedRows = slotsOfPack * slotTokens;
  const shape = { slots: slotsOfPack, slotTokens, supervisedRows, entriesPerRow: TEACHER_ENTRIES };
  const examples = Array.from({ length: slots }, (_, slot) => randomExample(String(slot), slotTokens, config, random));
  return { shape, packs: packExamples(examples, shape) };
}

/** A full step: the gradient of all packs, and Adam. */
export async function fullStep(
  step: TrainingStep,
  packs: readonly Pack[],
): Promise<{ loss: number; updateMilliseconds: number }> {
  const { lossSum, normalizer } = await step.accumulate(packs);
  const start = performance.now();
  await step.update(LEARNING_RATE);
  return { loss: lossSum / normalizer, updateMilliseconds: performance.now() - start };
}

/** A full slot of random tokens, every one supervised by twenty different classes whose shares sum to 1. */
function randomExample(id: string, slotTokens: number, { vocabularySize }: ModelConfig, random: Random): TrainingExample {
  const entries = slotTokens * TEACHER_ENTRIES;
  const tokenIds = new Int32Array(entries);
  const logprobs = new Float32Array(entries);
  for (let row = 0; row < slotTokens; row++) {
    const shares = Array.from({ length: TEACHER_ENTRIES }, () => random.uniform() + 1e-3);
    const total = shares.reduce((sum, share) => sum + share, 0);
    // Classes of a row lie a fixed stride apart, and so differ.
    const [first, stride] = [random.integer(vocabularySize), Math.floor(vocabularySize / TEACHER_ENTRIES)];
    for (let entry = 0; entry < TEACHER_ENTRIES; entry++) {
      tokenIds[row * TEACHER_ENTRIES + entry] = (first + entry * stride) % vocabularySize;
      logprobs[row * TEACHER_ENTRIES + entry] = Math.log(shares[entry]! / total);
    }
  }
  return {
    id,
    tokens: Int32Array.from({ length: slotTokens }, () => random.integer(vocabularySize)),
    rows: Int32Array.from({ length: slotTokens }, (_, row) => row),
    rowEnds: Int32Array.from({ length: slotTokens }, (_, row) => (row + 1) * TEACHER_ENTRIES),
    tokenIds,
    logprobs,
    entriesPerRow: TEACHER_ENTRIES,
  };
}
