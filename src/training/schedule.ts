export type Decay = 'cosine' | 'linear' | 'none';

export interface ScheduleSettings {
  learningRate: number;
  steps: number;
  /** Steps over which the rate rises linearly from near zero. */
  warmupSteps: number;
  decay: Decay;
  /** The rate at the last step, as a share of `learningRate`. */
  finalShare: number;
}

/** The learning rate of update `step` (from 0). */
export function learningRateAt(step: number, settings: ScheduleSettings): number {
  const { learningRate, steps, warmupSteps, decay, finalShare } = settings;
  if (step < warmupSteps) return (learningRate * (step + 1)) / (warmupSteps + 1);
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, steps - 1 - warmupSteps));
  const fall = { none: 0, linear: progress, cosine: (1 - Math.cos(Math.PI * progress)) / 2 }[decay];
  return learningRate * (1 - fall * (1 - finalShare));
}

/** Pairs of (supervised tokens a step, learning rate) between which the default is interpolated. */
const SMALL_STEP = { tokens: 1_024, learningRate: 2e-3 };
const LARGE_STEP = { tokens: 65_536, learningRate: 2e-2 };

/**
 * The default learning rate for a number of supervised tokens a step: 2e-2 at about 65 thousand, as upstream's recipes use it,
 * 2e-3 at about one thousand, log-log between, and held outside: small steps are noisy.
 */
export function defaultLearningRate(supervisedTokensPerStep: number): number {
  const position = Math.log(supervisedTokensPerStep / SMALL_STEP.tokens) / Math.log(LARGE_STEP.tokens / SMALL_STEP.tokens);
  const share = Math.min(1, Math.max(0, position));
  return SMALL_STEP.learningRate * (LARGE_STEP.learningRate / SMALL_STEP.learningRate) ** share;
}
