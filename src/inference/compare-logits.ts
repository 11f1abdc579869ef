import { logSumExp } from './log-sum-exp.js';

/** How far two runs' logits of the same tokens lie apart. */
export interface LogitDifference {
  /** max |Δ logit| */
  largest: number;
  /** Mean KL divergence of the second run from the first, nats a token. */
  meanKl: number;
  /** Share of tokens whose most probable token agrees, of those where the two best are not within 0.5. */
  agreement: number;
}

/** What quantised weights may make of the logits of exact ones: activations are rounded to 8 bits then. */
export const QUANTIZED_TOLERANCE: Pick<LogitDifference, 'meanKl' | 'agreement'> = { meanKl: 0.02, agreement: 0.9 };

/** Best tokens that lie closer than this may change places by rounding. */
const CLOSE_LOGITS = 0.5;

/** Compares the logits of two runs over the same tokens, [tokens, vocabulary] each. */
export function compareLogits(expected: Float32Array, found: Float32Array, vocabularySize: number): LogitDifference {
  const rows = expected.length / vocabularySize;
  let [largest, klSum, clear, agreeing] = [0, 0, 0, 0];
  for (let row = 0; row < rows; row++) {
    const a = expected.subarray(row * vocabularySize, (row + 1) * vocabularySize);
    const b = found.subarray(row * vocabularySize, (row + 1) * vocabularySize);
    for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i]! - b[i]!));
    klSum += divergence(a, b);
    const [best, second] = twoBest(a);
    if (a[best]! - a[second]! < CLOSE_LOGITS) continue;
    clear++;
    if (twoBest(b)[0] === best) agreeing++;
  }
  return { largest, meanKl: klSum / rows, agreement: clear === 0 ? 1 : agreeing / clear };
}

function divergence(a: Float32Array, b: Float32Array): number {
  const [normA, normB] = [a, b].map((logits) => logSumExp(logits, logits[twoBest(logits)[0]]!)) as [number, number];
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.exp(a[i]! - normA) * (a[i]! - normA - (b[i]! - normB));
  return sum;
}

function twoBest(logits: Float32Array): [number, number] {
  let [best, second] = logits[0]! >= logits[1]! ? [0, 1] : [1, 0];
  for (let i = 2; i < logits.length; i++) {
    if (logits[i]! > logits[best]!) [best, second] = [i, best];
    else if (logits[i]! > logits[second]!) second = i;
  }
  return [best, second];
}
