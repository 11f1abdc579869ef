import type { ModelConfig } from '../../models/model-config.js';
import { OPERAND_BYTES, type OperandType } from '../../tensor/products/products.js';
import type { ReplicaShape } from './replica-shape.js';

const ALIGNMENT = 64;

/**
 * Bytes that ggml's products of a replica need between their operations, from shapes alone: the most that one of them takes.
 * Results that are added to another are made apart first, and factors that do not lie as ggml reads them are copied.
 */
export function ggmlScratchBytes(config: ModelConfig, shape: ReplicaShape, operandType: OperandType): number {
  const { headDimension: D, heads, kvHeads } = config;
  const { headsPerTile, blockTokens, slotTokens, prefixTokens } = shape;
  const operandBytes = OPERAND_BYTES[operandType];
  const queries = blockTokens * (heads / kvHeads);
  const inTile = (count: number, bytes: number) => aligned(headsPerTile * count * bytes);
  const attention = [prefixTokens, slotTokens].map((keys) => {
    const gather = inTile(keys * queries, operandBytes) + inTile(queries * D, operandBytes) + inTile(keys * D, 4);
    const mix = inTile(keys * D, operandBytes) + inTile(queries * D, 4);
    return Math.max(gather, mix);
  });
  const linear = aligned(shape.tokens * config.embedding * Float32Array.BYTES_PER_ELEMENT);
  return Math.max(linear, ...attention);
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
