import { Random } from '../../src/core/random.js';
import type { ModelConfig } from '../../src/models/model-config.js';
import type { TrainingExample } from '../../src/training/examples.js';
import type { Pack, PackShape } from '../../src/training/pack.js';
import { packExamples } from '../../src/training/packing.js';
import type { TrainingStep } from '../../src/training/training-step.js';

const TEACHER_ENTRIES = 20;
const LEARNING_RATE = 2e-3;

/** What a training child is started with: `MODEL PREFIX SLOTS SLOT_TOKENS STEPS THREADS [PRODUCTS]`. */
export interface TrainingArguments {
  modelPath: string;
  prefixTokens: number;
  slots: number;
  slotTokens: number;
  /** Steps of a run, one after the other. */
  steps: number;
  threads: number;
  products: string | undefined;
}

export function readTrainingArguments(): TrainingArguments {
  const [modelPath, ...rest] = process.argv.slice(2);
  const [prefixTokens, slots, slotTokens, steps, threads] = rest.slice(0, 5).map(Number) as [
    number,
    number,
    number,
    number,
    number,
  ];
  return { modelPath: modelPath!, prefixTokens, slots, slotTokens, steps, threads, products: rest[5] };
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

/** Full steps, one after the other: the gradient of all packs, and Adam. Resolves to the last one's loss. */
export async function fullSteps(step: TrainingStep, packs: readonly Pack[], count: number): Promise<{ loss: number }> {
  let loss = Number.NaN;
  for (let made = 0; made < count; made++) {
    const { lossSum, normalizer } = await step.accumulate(packs);
    await step.update(LEARNING_RATE);
    loss = lossSum / normalizer;
  }
  return { loss };
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
