import type { Random } from '../core/random.js';
import type { TopCandidates } from './top-logprobs.js';

/** Of the best `count` candidates exp((logit − largest) · scale): what they weigh beside the best one, by falling weight. */
export function weigh({ logits }: TopCandidates, count: number, scale: number): Float64Array {
  const largest = logits[0] as number;
  return Float64Array.from({ length: count }, (_, rank) => Math.exp(((logits[rank] as number) - largest) * scale));
}

export function massOf(weights: Float64Array): number {
  return weights.reduce((sum, weight) => sum + weight, 0);
}

/** One of the best tokens, in proportion to what they weigh. */
export function drawWeighed({ ids }: TopCandidates, weights: Float64Array, random: Random): number {
  return ids[firstPassing(weights, random.uniform() * massOf(weights))] as number;
}

/**
 * One of all tokens, in proportion to exp(logit · scale), without the sum over all, which takes ten times as long: by rejection (von
 * Neumann, 1951). No other weighs more than the worst of the `weights` that are known. So each other is drawn as if it weighed as
 * much, and taken with the share of that which it has. With 49 thousand tokens a few draws are turned away.
 */
export function drawFromAll(
  logits: Float32Array,
  candidates: TopCandidates,
  weights: Float64Array,
  scale: number,
  random: Random,
): number {
  const known = weights.length;
  const largest = candidates.logits[0] as number;
  const worst = weights[known - 1] as number;
  const mass = massOf(weights);
  const bound = known < logits.length ? worst * logits.length : 0;
  for (;;) {
    const point = random.uniform() * (mass + bound);
    if (point < mass) return candidates.ids[firstPassing(weights, point)] as number;
    const token = random.integer(logits.length);
    const logit = logits[token] as number;
    if (isAmong(candidates, known, token, logit)) continue;
    if (random.uniform() * worst < Math.exp((logit - largest) * scale)) return token;
  }
}

/** Whether a token is one of the best `count`: of equal logits the lower id is the better. */
function isAmong({ ids, logits }: TopCandidates, count: number, token: number, logit: number): boolean {
  const worst = logits[count - 1] as number;
  return logit > worst || (logit === worst && token <= (ids[count - 1] as number));
}

function firstPassing(weights: Float64Array, mass: number): number {
  let sum = 0;
  const index = weights.findIndex((weight) => {
    sum += weight;
    return sum > mass;
  });
  return Math.max(index, 0);
}
