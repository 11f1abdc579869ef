import type { ProductTypeName } from '../../src/tensor/device-profile.js';
import { BF16_KINDS, LACKING_KINDS, STEP_KINDS, type StepKind } from '../../test/support/training-steps.js';

const [graphStep, ...replicaSteps] = STEP_KINDS as [StepKind, ...StepKind[]];

/** The training steps that this machine has, by the type of the frozen weights. The graph step in f32 comes first: the reference. */
export const STEPS_BY_WEIGHTS: Readonly<Record<ProductTypeName, readonly StepKind[]>> = {
  f32: [graphStep, ...replicaSteps],
  f16: [graphStep],
  bf16: [graphStep, ...BF16_KINDS],
  q8_0: [graphStep],
};

/** What this machine does not have, and why. */
export const LACKING_STEPS: readonly string[] = LACKING_KINDS.map(({ name, reason }) => `${name}: left out, ${reason}`);
