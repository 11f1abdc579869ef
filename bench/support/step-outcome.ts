import type { FrozenModel } from '../../src/models/frozen-model.js';
import type { GgufFile } from '../../src/models/gguf.js';
import type { Pack } from '../../src/training/pack.js';
import type { StepOptions } from '../../src/training/step-options.js';
import type { CartridgeGradients } from '../../src/training/training-step.js';
import { cosine } from '../../test/support/golden.js';
import type { StepKind } from '../../test/support/training-steps.js';

export const ADAM_STEPS = 10;

/** What every training step is given, and what came out elsewhere where that is known. */
export interface StepSubject {
  name: string;
  gguf: GgufFile;
  packs: readonly Pack[];
  options: StepOptions;
  learningRate: number;
  reference?: StepOutcome;
}

/** The gradient of the first step, and the mean loss after ten. */
export interface StepOutcome {
  gradients: CartridgeGradients;
  lossAfter: number;
}

/** Makes ten Adam steps on the same packs. */
export async function measureOutcome(
  kind: StepKind,
  model: FrozenModel,
  { packs, options, learningRate }: StepSubject,
): Promise<StepOutcome> {
  const step = await kind.create(model, options, model.backend.threads);
  try {
    await step.accumulate(packs);
    const gradients = await step.gradients();
    for (let update = 1; update <= ADAM_STEPS; update++) {
      await step.update(learningRate);
      if (update < ADAM_STEPS) await step.accumulate(packs);
    }
    const { lossSum, normalizer } = await step.evaluate(packs);
    return { gradients, lossAfter: lossSum / normalizer };
  } finally {
    step.dispose();
  }
}

/** The cosine of two gradients over all layers at once, and that of their worst layer: of keys or values, the lower one. */
export function cosines(found: CartridgeGradients, expected: CartridgeGradients): { whole: number; worstLayer: number } {
  const parts = ['keys', 'values'] as const;
  const flat = (layers: readonly Float32Array[]) => layers.flatMap((layer) => [...layer]);
  return {
    whole: Math.min(...parts.map((part) => cosine(flat(found[part]), flat(expected[part])))),
    worstLayer: Math.min(...parts.flatMap((part) => found[part].map((layer, index) => cosine(layer, expected[part][index]!)))),
  };
}
