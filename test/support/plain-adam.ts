import type { AdamUpdate } from '../../src/tensor/adam.js';

/** Adam as its definition says it (Kingma and Ba, 2015, algorithm 1), in place: what the engine's updates are compared with. */
export function updatePlainly(
  values: Float32Array,
  gradient: Float32Array,
  { first, second }: { first: Float32Array; second: Float32Array },
  { settings: { beta1, beta2, epsilon }, step, gradientScale, learningRate }: AdamUpdate,
): void {
  for (let i = 0; i < values.length; i++) {
    const g = gradient[i]! * gradientScale;
    first[i] = beta1 * first[i]! + (1 - beta1) * g;
    second[i] = beta2 * second[i]! + (1 - beta2) * g * g;
    const mean = first[i]! / (1 - beta1 ** step);
    values[i]! -= (learningRate * mean) / (Math.sqrt(second[i]! / (1 - beta2 ** step)) + epsilon);
  }
}
