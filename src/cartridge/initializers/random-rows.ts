import type { Random } from '../../core/random.js';
import type { ModelConfig } from '../../models/model-config.js';
import type { KeyValueRows } from '../../models/run-forward.js';

/** Standard normal rows, as upstream's `KVFromRandomVectors` draws them. */
export function normalRows(config: ModelConfig, tokenCount: number, random: Random): KeyValueRows {
  const draw = () => {
    const length = tokenCount * config.kvHeads * config.headDimension;
    return Float32Array.from({ length }, () => random.normal());
  };
  return { keys: perLayer(config, draw), values: perLayer(config, draw) };
}

/**
 * Normal rows with the mean and the deviation that the model's own rows of a text have, per layer, head and dimension. Keys
 * are taken as they are rotated, so slow frequencies keep their mean and fast ones have mean near zero.
 */
export function matchedRandomRows(config: ModelConfig, sample: KeyValueRows, tokenCount: number, random: Random): KeyValueRows {
  const draw = (layer: Float32Array) => drawLike(layer, config.kvHeads * config.headDimension, tokenCount, random);
  return { keys: sample.keys.map(draw), values: sample.values.map(draw) };
}

function drawLike(sample: Float32Array, rowValues: number, tokenCount: number, random: Random): Float32Array {
  const sampleRows = sample.length / rowValues;
  const mean = new Float64Array(rowValues);
  const deviation = new Float64Array(rowValues);
  for (let i = 0; i < sample.length; i++) mean[i % rowValues]! += sample[i]! / sampleRows;
  for (let i = 0; i < sample.length; i++) deviation[i % rowValues]! += (sample[i]! - mean[i % rowValues]!) ** 2 / sampleRows;
  return Float32Array.from({ length: tokenCount * rowValues }, (_, i) => {
    const column = i % rowValues;
    return mean[column]! + Math.sqrt(deviation[column]!) * random.normal();
  });
}

function perLayer(config: ModelConfig, make: () => Float32Array): Float32Array[] {
  return Array.from({ length: config.layers }, make);
}
