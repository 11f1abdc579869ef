import type { ModelConfig } from '../../models/model-config.js';
import type { ProductsChoice } from '../../tensor/products/open-products.js';
import { describeRecomputation, type MemoryPlan, planMemory, requireMemory } from '../memory-plan.js';
import type { PackShape } from '../pack.js';
import { Arena } from './arena.js';
import { ggmlScratchBytes } from './ggml-scratch.js';
import { layOutReplica } from './replica-memory.js';
import { chooseReplicaShape, type ReplicaShape } from './replica-shape.js';
import { type CartridgeShape, SharedCartridge } from './shared-cartridge.js';

/** What the memory of a replica step follows from, beside the model's shapes. */
export interface ReplicaPlanOptions {
  /** See `weightBytes` where no model is loaded. */
  weightBytes: number;
  shape: PackShape;
  /** Rows of the cartridge, and how many of them are not trained. */
  prefixTokens: number;
  frozenCount: number;
  workers: number;
  products: Pick<ProductsChoice, 'provider' | 'operandType'>;
  logitChunkBytes: number;
}

/** The sizes of a replica step. */
export interface ReplicaPlan extends MemoryPlan {
  shape: ReplicaShape;
  cartridge: CartridgeShape;
  cartridgeBytes: number;
  /** Memory of one worker. */
  replicaBytes: number;
}

/** What a worker thread takes before it computes: JavaScript's heap and code, measured with the compiled package. */
const THREAD_BYTES = 24 << 20;

/** What oneDNN takes with the code that it compiles and its own scratch memory; 65 to 100 MiB were seen with 3.2 (AVX2 to AMX). */
const ONEDNN_BYTES = 80 << 20;

/** Plans a step from shapes alone: nothing is loaded or allocated. */
export function planReplica(config: ModelConfig, options: ReplicaPlanOptions, recomputedLayers: number): ReplicaPlan {
  const { weightBytes, prefixTokens, frozenCount, workers, products, logitChunkBytes } = options;
  const { layers, kvHeads, headDimension } = config;
  const { operandType } = products;
  const shape = chooseReplicaShape(config, options.shape, { workers, prefixTokens, logitChunkBytes, recomputedLayers });
  const cartridge = { layers, kvHeads, headDimension, tokenCount: prefixTokens, frozenCount, workers, operandType };
  const cartridgeBytes = new SharedCartridge(cartridge, 0n).byteLength;
  const arena = new Arena(0n);
  layOutReplica(config, shape, operandType, arena);
  const ofProducts = products.provider === 'ggml' ? ggmlScratchBytes(config, shape, operandType) * workers : ONEDNN_BYTES;
  const parts = {
    weights: weightBytes,
    'activations and temporary values': arena.byteLength * workers,
    'memory of the products': ofProducts,
    'cartridge and optimiser': cartridgeBytes,
    threads: THREAD_BYTES * workers,
  };
  const plan = planMemory(parts, describeRecomputation(recomputedLayers, layers));
  return { ...plan, shape, cartridge, cartridgeBytes, replicaBytes: arena.byteLength };
}

/**
 * Keeps the activations of as many layers as fit into `memoryBytes`, and computes the others again: the results are the same, and
 * a step takes up to a quarter or a third longer. Throws `OUT_OF_MEMORY` with the plan when all layers are not enough.
 */
export function chooseReplicaPlan(config: ModelConfig, options: ReplicaPlanOptions, memoryBytes: number): ReplicaPlan {
  const kept = planReplica(config, options, 0);
  if (kept.bytes <= memoryBytes) return kept;
  for (let recomputedLayers = 2; recomputedLayers < config.layers; recomputedLayers++) {
    const plan = planReplica(config, options, recomputedLayers);
    if (plan.bytes <= memoryBytes) return plan;
  }
  return requireMemory(planReplica(config, options, config.layers), memoryBytes);
}
