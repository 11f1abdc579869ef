import type { Kernel } from '../../tensor/products/products.js';
import type { ReplicaContext } from './replica-context.js';

/** RMS norms and residual sums over `rows` rows. Kernels take the addresses that their comments name, in that order. */
export interface Norms {
  /** x, weight, result. */
  norm: Kernel;
  /** x, branch, weight, sum = x + branch, result = the norm of the sum. */
  addAndNorm: Kernel;
  /** x, branch, sum. */
  add: Kernel;
  /** The gradient of the result (overwritten), weight, x, the gradient of x. */
  normBackward: Kernel;
  /** As before, then the gradient that comes past the norm, and the sum of both in place of the gradient of x. */
  normBackwardAndAdd: Kernel;
}

export function createNorms(context: ReplicaContext, rows: number): Norms {
  const { embedding, rmsEpsilon } = context.model.config;
  const hidden = [embedding, rows];
  return {
    norm: context.graph((g) => {
      const normed = g.result(2, g.ggml.ggml_rms_norm(g.context, g.input(0, hidden), rmsEpsilon));
      g.result(2, g.ggml.ggml_mul(g.context, normed, g.input(1, [embedding])));
    }),
    addAndNorm: context.graph((g) => {
      const sum = g.result(3, g.ggml.ggml_add(g.context, g.input(0, hidden), g.input(1, hidden)));
      const normed = g.result(4, g.ggml.ggml_rms_norm(g.context, sum, rmsEpsilon));
      g.result(4, g.ggml.ggml_mul(g.context, normed, g.input(2, [embedding])));
    }),
    add: context.graph((g) => {
      g.result(2, g.ggml.ggml_add(g.context, g.input(0, hidden), g.input(1, hidden)));
    }),
    normBackward: context.graph((g) => {
      const scaled = g.result(0, g.ggml.ggml_mul(g.context, g.input(0, hidden), g.input(1, [embedding])));
      g.result(3, g.ggml.ggml_rms_norm_back(g.context, scaled, g.input(2, hidden), rmsEpsilon));
    }),
    normBackwardAndAdd: context.graph((g) => {
      const scaled = g.result(0, g.ggml.ggml_mul(g.context, g.input(0, hidden), g.input(1, [embedding])));
      const gradient = g.result(4, g.ggml.ggml_rms_norm_back(g.context, scaled, g.input(2, hidden), rmsEpsilon));
      g.result(4, g.ggml.ggml_add(g.context, gradient, g.input(3, hidden)));
    }),
  };
}
