import { CartridgesError } from '../core/errors.js';
import type { ModelConfig } from '../models/model-config.js';
import type { AdamSettings } from '../tensor/adam.js';
import type { Pack, PackShape } from './pack.js';
import type { LossKind, StepLoss } from './training-step.js';

/** What every training step is made from, beside the frozen model. */
export interface StepOptions {
  shape: PackShape;
  /** Rows to start from, per layer [p, Hkv, D]; copied. */
  keys: readonly Float32Array[];
  values: readonly Float32Array[];
  frozenCount: number;
  loss?: LossKind;
  /** Upper bound of the gradient's norm; 0 does not clip. */
  gradientClip?: number;
  adam?: AdamSettings;
  /** Logits exist for this many bytes at a time in each lane. */
  logitChunkBytes?: number;
  /** What the plan may take; without it there is no limit. */
  memoryBytes?: number;
}

export const LOGIT_CHUNK_BYTES = 64 << 20;

/** The rows of the cartridge that a step starts from. Throws `INTERNAL` when they do not fit the model. */
export function countRows({ keys, values }: StepOptions, { layers, kvHeads, headDimension }: ModelConfig): number {
  const rowValues = kvHeads * headDimension;
  const tokenCount = (keys[0]?.length ?? 0) / rowValues;
  const fits = (rows: readonly Float32Array[]) =>
    rows.length === layers && rows.every((row) => row.length === tokenCount * rowValues);
  if (tokenCount > 0 && Number.isInteger(tokenCount) && fits(keys) && fits(values)) return tokenCount;
  throw new CartridgesError('INTERNAL', 'the rows of the cartridge do not fit the model');
}

/** The result of a call from its summed loss. */
export function stepLoss(packs: readonly Pack[], lossSum: number, kind: LossKind): StepLoss {
  const klSum = packs.reduce((sum, pack) => sum + pack.weightedLogprobSum, lossSum);
  const counted = kind === 'token-mean' ? 'supervisedTokens' : 'entries';
  return { lossSum, klSum, normalizer: packs.reduce((sum, pack) => sum + pack[counted], 0) };
}

/** By how much a gradient is multiplied so that its norm is at most `limit`; a limit of 0 is none. */
export function clipFactor(norm: number, limit: number): number {
  return limit > 0 && norm > limit ? limit / norm : 1;
}

/** The error of an update before anything was accumulated. */
export function nothingAccumulated(): CartridgesError {
  return new CartridgesError('INTERNAL', 'an update without a supervised token');
}
