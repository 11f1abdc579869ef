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
  const { blockTokens, slotTokens, prefixTokens } = shape;
  const operandBytes = OPERAND_BYTES[operandType];
  const queries = blockTokens * (heads / kvHeads);
  const keys = prefixTokens + slotTokens;
  // The products that gather take more than the others.
  const gather = aligned(keys * queries * operandBytes) + aligned(queries * D * operandBytes) + aligned(keys * D * 4);
  const linear = aligned(shape.tokens * config.embedding * Float32Array.BYTES_PER_ELEMENT);
  return Math.max(linear, gather);
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
