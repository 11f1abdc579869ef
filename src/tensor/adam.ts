export interface AdamSettings {
  beta1: number;
  beta2: number;
  epsilon: number;
}

export const DEFAULT_ADAM: AdamSettings = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/** The moments of every parameter and the number of updates so far. */
export interface AdamState {
  step: number;
  first: Float32Array[];
  second: Float32Array[];
}

/** Values that `ggml_opt_step_adamw` reads. */
export const ADAM_SETTING_COUNT = 7;

/**
 * They make its update number `step`, counted from 1, that of Adam (Kingma and Ba, 2015, algorithm 1): α, β₁, β₂, ε, no decay of
 * weights, 1 / (1 − β₁ᵗ) and 1 / (1 − β₂ᵗ).
 */
export function adamSettingValues({ beta1, beta2, epsilon }: AdamSettings, step: number, learningRate: number): number[] {
  return [learningRate, beta1, beta2, epsilon, 0, 1 / (1 - beta1 ** step), 1 / (1 - beta2 ** step)];
}

/** What one update has the same for all parameters. */
export interface AdamUpdate {
  settings: AdamSettings;
  /** Counted from 1. */
  step: number;
  gradientScale: number;
  learningRate: number;
}
