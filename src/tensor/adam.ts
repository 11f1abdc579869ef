import { copyInSlices, inSlices } from '../core/slices.js';

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

/**
 * Adam (Kingma and Ba, 2015, algorithm 1) without weight decay over a list of f32 arrays, in place, moments in f32. The first
 * `frozen` values of each array are left alone.
 */
export class Adam {
  readonly #settings: AdamSettings;
  readonly #frozen: number;
  #state: AdamState;

  constructor(parameters: readonly Float32Array[], frozen: number, settings: AdamSettings = DEFAULT_ADAM) {
    this.#settings = settings;
    this.#frozen = frozen;
    const zeros = () => parameters.map((values) => new Float32Array(values.length));
    this.#state = { step: 0, first: zeros(), second: zeros() };
  }

  /** One update with `gradients · gradientScale`, in slices. */
  async update(
    parameters: readonly Float32Array[],
    gradients: readonly Float32Array[],
    gradientScale: number,
    learningRate: number,
  ): Promise<void> {
    const update = { settings: this.#settings, step: ++this.#state.step, gradientScale, learningRate };
    await inSlices(parameters, (index, first, end) => {
      const sliceOf = (arrays: readonly Float32Array[]) => arrays[index]!.subarray(first, end);
      const moments = { first: sliceOf(this.#state.first), second: sliceOf(this.#state.second) };
      updateWithAdam(sliceOf(parameters), sliceOf(gradients), moments, Math.max(0, this.#frozen - first), update);
    });
  }

  /** A copy of the state. */
  state(): Promise<AdamState> {
    return copyOf(this.#state);
  }

  async restore(state: AdamState): Promise<void> {
    this.#state = await copyOf(state);
  }
}

/** What one update has the same for all parameters; `step` counts from 1. */
export interface AdamUpdate {
  settings: AdamSettings;
  step: number;
  gradientScale: number;
  learningRate: number;
}

/** One update of an array of parameters and its moments, in place, from the value number `frozen` on. */
export function updateWithAdam(
  values: Float32Array,
  gradient: Float32Array,
  { first, second }: { first: Float32Array; second: Float32Array },
  frozen: number,
  { settings: { beta1, beta2, epsilon }, step, gradientScale, learningRate }: AdamUpdate,
): void {
  // Both corrections once for all values: a division costs as much as all the rest of a value's work.
  const rate = learningRate / (1 - beta1 ** step);
  const rootScale = 1 / Math.sqrt(1 - beta2 ** step);
  for (let i = frozen; i < values.length; i++) {
    const g = gradient[i]! * gradientScale;
    const m = beta1 * first[i]! + (1 - beta1) * g;
    const v = beta2 * second[i]! + (1 - beta2) * g * g;
    first[i] = m;
    second[i] = v;
    values[i]! -= (rate * m) / (Math.sqrt(v) * rootScale + epsilon);
  }
}

async function copyOf({ step, first, second }: AdamState): Promise<AdamState> {
  return { step, first: await copyInSlices(first), second: await copyInSlices(second) };
}
