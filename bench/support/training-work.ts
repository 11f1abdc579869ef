import type { ModelConfig } from '../../src/models/model-config.js';
import type { PackShape } from '../../src/training/pack.js';

/**
 * Floating-point operations of the matrix products that a training step cannot do without (a multiply-add is two): no weight
 * gradients, no gradient below the prefix of the first layer, and of attention only what a token may see. Norms, softmax, RoPE
 * and Adam are left out, as is usual; work that an implementation does beyond this does not count for it.
 */
export function stepOperations(config: ModelConfig, shape: PackShape, prefixTokens: number): number {
  const { layers, embedding, heads, kvHeads, headDimension, feedForward, vocabularySize } = config;
  const { slots, slotTokens, supervisedRows } = shape;
  const tokens = slots * slotTokens;
  const projections = embedding * headDimension * (heads + 2 * kvHeads);
  const others = embedding * headDimension * heads + 3 * embedding * feedForward;
  const linear = tokens * ((2 * layers - 1) * projections + 2 * layers * others);
  const head = 2 * supervisedRows * embedding * vocabularySize;
  const seenPairs = slots * slotTokens * (prefixTokens + (slotTokens + 1) / 2);
  // Two products forward, four backward; the queries of the first layer need no gradient.
  const attention = (6 * layers - 1) * heads * headDimension * seenPairs;
  return 2 * (linear + head + attention);
}
