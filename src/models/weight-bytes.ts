import type { Ggml } from '../native/ggml.js';
import { GgmlType } from '../native/ggml.js';
import { spacedRowBytes } from '../tensor/row-spacing.js';
import { layerTensorShapes, type ModelConfig } from './model-config.js';

/** Every tensor begins at a multiple of this. */
const TENSOR_ALIGNMENT = 32;

/** A block type needs rows of whole blocks; a matrix that has others (a vocabulary of 3,161, say) is kept in f32. */
export function fittingType(type: number, rowLength: number): number {
  const blockLength = type === GgmlType.F32 || type === GgmlType.F16 || type === GgmlType.BF16 ? 1 : 32;
  return rowLength % blockLength === 0 ? type : GgmlType.F32;
}

/**
 * Bytes of a model's frozen weights in a processor's memory, from its shapes alone: matrices in the type `forward` and, with
 * `transposed`, once more for gradients.
 */
export function weightBytes(
  engine: { ggml: Ggml },
  config: ModelConfig,
  { forward, transposed, spacesRows = false }: { forward: number; transposed: number | undefined; spacesRows?: boolean },
): number {
  const tensor = (wantedType: number, rowLength: number, rows = 1, isSpaced = false) => {
    const type = fittingType(wantedType, rowLength);
    const rowBytes = Number(engine.ggml.ggml_row_size(type, rowLength));
    const distance = isSpaced && type === GgmlType.F32 ? spacedRowBytes(rowBytes) : rowBytes;
    return Math.ceil((distance * (rows - 1) + rowBytes) / TENSOR_ALIGNMENT) * TENSOR_ALIGNMENT;
  };
  const weight = ([inputs = 1, outputs]: readonly number[]) => {
    if (outputs === undefined) return tensor(GgmlType.F32, inputs);
    return tensor(forward, inputs, outputs, spacesRows) + (transposed === undefined ? 0 : tensor(transposed, outputs, inputs));
  };
  const layer = Object.values(layerTensorShapes(config)).reduce((sum, shape) => sum + weight(shape), 0);
  const end = weight([config.embedding]) + weight([config.embedding, config.vocabularySize]);
  return config.layers * layer + end;
}
