import { EXACT_WEIGHTS, type FrozenModel, type WeightTypes } from '../../src/models/frozen-model.js';
import { loadEngine } from '../../src/native/engine.js';
import { GgmlType } from '../../src/native/ggml.js';
import { findOneDnn } from '../../src/native/onednn/library.js';
import type { ProductsChoice } from '../../src/tensor/products/open-products.js';
import { ProductTrial } from '../../src/tensor/products/product-trial.js';
import type { OperandType } from '../../src/tensor/products/products.js';
import { GraphStep } from '../../src/training/graph-step.js';
import { ReplicaStep } from '../../src/training/replica/replica-step.js';
import type { StepOptions } from '../../src/training/step-options.js';
import type { TrainingStep } from '../../src/training/training-step.js';

export interface StepKind {
  name: string;
  create(model: FrozenModel, options: StepOptions, workers?: number): Promise<TrainingStep>;
}

/** How a model is loaded for steps with operands of a type. */
export const WEIGHTS: Readonly<Record<OperandType, WeightTypes>> = {
  f32: EXACT_WEIGHTS,
  bf16: { forward: GgmlType.BF16, transposed: GgmlType.BF16 },
};

/** The replica step with one provider of products. */
function replicaStep(name: string, products: ProductsChoice): StepKind {
  return { name, create: (model, options, workers = 1) => ReplicaStep.create(model, { ...options, workers, products }) };
}

const search = findOneDnn();

/** oneDNN's products with operands of a type, or why this machine does not have them. */
function oneDnnStep(operandType: OperandType): { kind: StepKind } | { name: string; reason: string } {
  const name = `replica step with oneDNN${operandType === 'f32' ? '' : ` and ${operandType} operands`}`;
  if (search.state !== 'found') return { name, reason: 'CARTRIDGES_ONEDNN names no library that can be used' };
  const products: ProductsChoice = { provider: 'oneDNN', operandType, path: search.library.path };
  try {
    new ProductTrial(loadEngine(), { products, weightType: operandType }, 64, 64).dispose();
    return { kind: replicaStep(name, products) };
  } catch (error) {
    return { name, reason: (error as Error).message };
  }
}

const [exact, rounded] = [oneDnnStep('f32'), oneDnnStep('bf16')];
const existing = (step: typeof exact) => ('kind' in step ? [step.kind] : []);

/** Every training step in f32, with every provider of products that this machine has: all must pass the same tests. */
export const STEP_KINDS: StepKind[] = [
  { name: 'graph step', create: async (model, options, lanes = 1) => new GraphStep(model, { ...options, lanes }) },
  replicaStep('replica step with ggml', { provider: 'ggml', operandType: 'f32' }),
  ...existing(exact),
];

/** Activations rounded to bf16 before each product, as oneDNN takes them on processors that have bf16; ggml can do it anywhere. */
export const BF16_OPERANDS = replicaStep('replica step with bf16 operands', { provider: 'ggml', operandType: 'bf16' });

/** Every step with operands in bf16 that this machine has. The model is loaded in bf16 for them. */
export const BF16_KINDS: StepKind[] = [BF16_OPERANDS, ...existing(rounded)];

/** The steps that cannot run here, to be shown as skipped. */
export const LACKING_KINDS = [exact, rounded].flatMap((step) => ('kind' in step ? [] : [step]));
