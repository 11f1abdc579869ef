import type { GgufFile } from '../models/gguf.js';
import type { ModelConfig } from '../models/model-config.js';

/** Of a decode's time that finished turns in the cache may cost. */
const DECODE_SHARE = 0.02;
/**
 * Products with weights that take as long as passing over one cell of others in one head of one layer: 2 ns or more beside 31
 * products a ns, measured with SmolLM2-135M at 8 rows a decode on an AMD EPYC (Zen 4). Processors with slower products have fewer.
 */
const PRODUCTS_PER_CELL = 64;

/**
 * Cells that finished turns may keep in a server's cache. The attention of each row passes over the cells of all, in every head of
 * every layer; beside the products with the weights that is nothing in a large model, and much in a small one.
 */
export function chooseKeptTurnCells({ layers, heads }: Pick<ModelConfig, 'layers' | 'heads'>, parameters: number): number {
  return Math.round((DECODE_SHARE * parameters) / (PRODUCTS_PER_CELL * layers * heads));
}

/** Numbers in all tensors of a model. */
export function countParameters({ tensors }: Pick<GgufFile, 'tensors'>): number {
  let count = 0;
  for (const { shape } of tensors.values()) count += shape.reduce((product, extent) => product * extent, 1);
  return count;
}
