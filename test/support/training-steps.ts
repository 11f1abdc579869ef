import type { FrozenModel } from '../../src/models/frozen-model.js';
import { findOneDnn } from '../../src/native/onednn/library.js';
import type { ProductsChoice } from '../../src/tensor/products/open-products.js';
import { GraphStep } from '../../src/training/graph-step.js';
import { ReplicaStep } from '../../src/training/replica/replica-step.js';
import type { StepOptions } from '../../src/training/step-options.js';
import type { TrainingStep } from '../../src/training/training-step.js';

export interface StepKind {
  name: string;
  create(model: FrozenModel, options: StepOptions, workers?: number): Promise<TrainingStep>;
}

/** The replica step with one provider of products. */
function replicaStep(name: string, products: ProductsChoice): StepKind {
  return { name, create: (model, options, workers = 1) => ReplicaStep.create(model, { ...options, workers, products }) };
}

const search = findOneDnn();

/** Every training step, with every provider of products that this machine has: all must pass the same tests. */
export const STEP_KINDS: StepKind[] = [
  { name: 'graph step', create: async (model, options, lanes = 1) => new GraphStep(model, { ...options, lanes }) },
  replicaStep('replica step with ggml', { provider: 'ggml', operandType: 'f32' }),
  ...(search.state === 'found'
    ? [replicaStep('replica step with oneDNN', { provider: 'oneDNN', operandType: 'f32', path: search.library.path })]
    : []),
];

/** Activations rounded to bf16 before each product, as oneDNN takes them on processors that have bf16; ggml can do it anywhere. */
export const BF16_OPERANDS = replicaStep('replica step with bf16 operands', { provider: 'ggml', operandType: 'bf16' });
