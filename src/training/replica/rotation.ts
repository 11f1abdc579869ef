import { GgmlType } from '../../native/ggml.js';
import type { GgmlTensor } from '../../native/handles.js';
import type { PointedGraphBuilder } from '../../tensor/pointed-graph.js';
import type { Kernel } from '../../tensor/products/products.js';
import type { ReplicaContext } from './replica-context.js';

/** Slots of the kernels below. Absent vectors (biases, norms, RoPE's factors) are given any address. */
const [VALUES, RESULT, POSITIONS, FACTORS, BIAS, NORM] = [0, 1, 2, 3, 4, 5] as const;
const RAW = BIAS;

/** From what the query or key projection gives to heads that attention can take: bias, norm of each head, RoPE. */
export interface Rotation {
  /** Projected values (the bias is added in place), rotated heads, positions, factors, bias, norm's weight. */
  forward: Kernel;
  /** Gradient of the rotated heads (overwritten), gradient of the projection, positions, factors, projected values, norm's weight. */
  backward: Kernel;
}

/** `scale` multiplies the rotated heads: RoPE does that for nothing, in both directions. */
export function createRotation(context: ReplicaContext, heads: number, scale: number): Rotation {
  const { config } = context.model;
  const { traits, headDimension: D, rmsEpsilon } = config;
  const { tokens } = context.shape;
  const byHead = [D, heads, tokens];
  return {
    forward: context.graph((g) => {
      const { ggml, context: c } = g;
      if (traits.attentionBias) addBias(g, VALUES, BIAS, heads * D, tokens);
      let x = g.input(VALUES, byHead);
      if (traits.headNorm) {
        x = g.result(RESULT, ggml.ggml_rms_norm(c, x, rmsEpsilon));
        x = g.result(RESULT, ggml.ggml_mul(c, x, g.input(NORM, [D])));
      }
      g.result(RESULT, rotate(context, g, 'ggml_rope_ext', x, scale));
    }),
    backward: context.graph((g) => {
      const { ggml, context: c } = g;
      const rotated = rotate(context, g, 'ggml_rope_ext_back', g.input(VALUES, byHead), scale);
      if (!traits.headNorm) {
        g.result(RESULT, rotated);
        return;
      }
      const scaled = g.result(VALUES, ggml.ggml_mul(c, g.result(VALUES, rotated), g.input(NORM, [D])));
      g.result(RESULT, ggml.ggml_rms_norm_back(c, scaled, g.input(RAW, byHead), rmsEpsilon));
    }),
  };
}

/** Adds a bias in place, to rows of `width` values. Addresses: values, bias. */
export function createBias(context: ReplicaContext, width: number): Kernel {
  return context.graph((g) => addBias(g, 0, 1, width, context.shape.tokens));
}

function addBias(g: PointedGraphBuilder, values: number, bias: number, width: number, tokens: number): void {
  g.result(values, g.ggml.ggml_add(g.context, g.input(values, [width, tokens]), g.input(bias, [width])));
}

function rotate(
  { model, shape }: ReplicaContext,
  g: PointedGraphBuilder,
  operation: 'ggml_rope_ext' | 'ggml_rope_ext_back',
  x: GgmlTensor,
  scale: number,
): GgmlTensor {
  const { headDimension: D } = model.config;
  const positions = g.input(POSITIONS, [shape.tokens], { type: GgmlType.I32 });
  const factors = model.rope.factors === undefined ? null : g.input(FACTORS, [D / 2]);
  return g.ggml[operation](g.context, x, positions, factors, D, model.rope.mode, 0, model.rope.base, 1, 0, scale, 32, 1);
}
