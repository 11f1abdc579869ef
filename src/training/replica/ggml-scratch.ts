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
  const gather = aligned(queries * D * operandBytes) + aligned(keys * D * OPERAND_BYTES.f32);
  const mix = aligned(keys * queries * operandBytes) + aligned(keys * D * operandBytes);
  const sumOrScoreGradient = aligned(keys * queries * OPERAND_BYTES.f32);
  const linear = aligned(shape.tokens * config.embedding * OPERAND_BYTES.f32);
  return Math.max(linear, gather, mix, sumOrScoreGradient);
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
