import type { AdamState } from '../tensor/adam.js';
import type { MemoryPlan } from './memory-plan.js';
import type { Pack } from './pack.js';

/** Over what the summed loss is divided: supervised tokens, or teacher entries as upstream does (`cartridges/train.py`). */
export type LossKind = 'token-mean' | 'entry-mean';

/** Gradients of the cartridge, per layer [p, Hkv, D]; zero in frozen rows. */
export interface CartridgeGradients {
  keys: Float32Array[];
  values: Float32Array[];
}

/** Everything that an update changes: what a checkpoint keeps. */
export interface TrainingState {
  keys: Float32Array[];
  values: Float32Array[];
  adam: AdamState;
}

export interface StepLoss {
  /** Σ −exp(P) · log q over the teacher entries of all packs, natural logarithm. */
  lossSum: number;
  /** Σ exp(P) · (P − log q) over the same entries. */
  klSum: number;
  /** Supervised tokens or entries, by the kind of loss. */
  normalizer: number;
}

/**
 * One training step of a cartridge in front of a frozen model. The kind of loss, the frozen rows and Adam's constants are
 * fixed at creation, as is the shape of the packs. One call at a time; none holds up the event loop, however large the cartridge.
 *
 * A step has `lanes` that compute side by side, a pack or a part of one each: several packs in one call keep them all busy.
 * Results do not depend on which lane is faster: work is dealt to lanes in a fixed order, and sums are made in theirs.
 */
export interface TrainingStep {
  /** What the step takes in memory, computed before the first call. */
  readonly plan: MemoryPlan;
  readonly lanes: number;
  /** Adds the gradient of the SUM over the supervised tokens of all packs; rows do not change. */
  accumulate(packs: readonly Pack[], signal?: AbortSignal): Promise<StepLoss>;
  /** The loss of packs without gradients: validation. */
  evaluate(packs: readonly Pack[], signal?: AbortSignal): Promise<StepLoss>;
  /** Divides by the accumulated normalizer, makes one Adam step on the rows that are not frozen and zeroes the gradient. */
  update(learningRate: number): Promise<{ gradientNorm: number }>;
  /** Copies of the accumulated gradient sums, for tests. */
  gradients(): Promise<CartridgeGradients>;
  /** A copy of rows and moments. */
  state(): Promise<TrainingState>;
  /** Takes over rows and moments and forgets accumulated gradients. */
  restore(state: TrainingState): Promise<void>;
  dispose(): void;
}
