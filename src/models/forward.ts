import type { Graph, Variable } from '../tensor/graph.js';
import type { StoredTensor } from '../tensor/tensor-store.js';
import type { FrozenLayer, FrozenModel } from './frozen-model.js';

/** Rows of keys and values in front of the text, of one layer, each [D, Hkv, p] (the order of a cartridge). */
export interface PrefixLayer {
  keys: Variable;
  values: Variable;
}

/**
 * What the forward pass reads. Tokens lie in `slots` slots of `slotTokens` tokens; a token attends to the prefix and, within
 * its slot, to what `mask` allows, so no work is spent between slots.
 */
export interface ForwardInput {
  slots: number;
  slotTokens: number;
  /** F32 [embedding, slots · slotTokens] */
  embeddings: Variable;
  /** I32 [slots · slotTokens] */
  positions: StoredTensor;
  /** F32 [p + slotTokens, slotTokens, 1, slots] of 0 and −∞ */
  mask: StoredTensor;
  prefix?: readonly PrefixLayer[];
  /** I32 [n]: only these rows are carried through the end of the last layer. */
  outputRows?: StoredTensor;
  /** This many first layers keep no values for the gradient, which computes them again. */
  recomputedLayers?: number;
}

export interface ForwardResult {
  /** After the final norm: [embedding, n], or [embedding, slots · slotTokens] without `outputRows`. */
  hidden: Variable;
  /** The text's own keys (rotated) and values of each layer, [D, Hkv, slots · slotTokens]. */
  keyValues: PrefixLayer[];
}

/** Adds the transformer of a llama, qwen2 or qwen3 model to a graph: RMS norm, grouped-query attention with RoPE, SwiGLU. */
export function buildForward(graph: Graph, model: FrozenModel, input: ForwardInput): ForwardResult {
  const { prefix, recomputedLayers = 0 } = input;
  const keyValues: PrefixLayer[] = [];
  let x = input.embeddings;
  for (let index = 0; index < model.layers.length; index++) {
    const rows = prefix?.[index];
    const inputs = rows ? [x, rows.keys, rows.values] : [x];
    const build = ([from, keys, values]: readonly Variable[]) =>
      buildLayer(graph, model, input, index, from!, keys && values && { keys, values });
    const { output, ...own } = index < recomputedLayers ? graph.recomputed(inputs, build) : build(inputs);
    keyValues.push(own);
    x = output;
  }
  return { hidden: buildNorm(graph, model, x, model.outputNorm), keyValues };
}

function buildNorm(graph: Graph, model: FrozenModel, x: Variable, weight: StoredTensor): Variable {
  return graph.multiplyFrozen(graph.rmsNorm(x, model.config.rmsEpsilon), weight);
}

function buildLayer(
  graph: Graph,
  model: FrozenModel,
  input: ForwardInput,
  index: number,
  x: Variable,
  prefix: PrefixLayer | undefined,
): PrefixLayer & { output: Variable } {
  const layer = model.layers[index]!;
  const attention = buildAttention(graph, model, layer, buildNorm(graph, model, x, layer.attentionNorm), input, prefix);
  const sum = graph.add(x, attention.output);
  // Rows that nobody asks for end here: the last feed-forward layer is computed for the others only.
  const isLast = index === model.layers.length - 1;
  const attended = isLast && input.outputRows ? graph.gatherRows(sum, input.outputRows) : sum;
  const h = buildNorm(graph, model, attended, layer.feedForwardNorm);
  const gated = graph.swiglu(graph.linear(layer.gate, h), graph.linear(layer.up, h));
  return { keys: attention.keys, values: attention.values, output: graph.add(attended, graph.linear(layer.down, gated)) };
}

function buildAttention(
  graph: Graph,
  model: FrozenModel,
  layer: FrozenLayer,
  x: Variable,
  input: ForwardInput,
  prefix: PrefixLayer | undefined,
): PrefixLayer & { output: Variable } {
  const { heads, kvHeads, headDimension: D, rmsEpsilon } = model.config;
  const { slots, slotTokens } = input;
  const group = heads / kvHeads;
  const project = (matrix: FrozenLayer['query'], bias: StoredTensor | undefined, count: number, headNorm?: StoredTensor) => {
    const flat = graph.linear(matrix, x);
    const split = graph.reshape(bias ? graph.addFrozen(flat, bias) : flat, D, count, slots * slotTokens);
    return headNorm ? graph.multiplyFrozen(graph.rmsNorm(split, rmsEpsilon), headNorm) : split;
  };
  const rotate = (y: Variable) => graph.rope(y, input.positions, model.rope);
  const queries = rotate(project(layer.query, layer.queryBias, heads, layer.queryNorm));
  const keys = rotate(project(layer.key, layer.keyBias, kvHeads, layer.keyNorm));
  const values = project(layer.value, layer.valueBias, kvHeads);

  // [D, heads, tokens] → [D, slotTokens, heads, slots]: one product for each head and slot.
  const bySlot = (y: Variable, count: number) => graph.permute(graph.reshape(y, D, count, slotTokens, slots), [0, 2, 1, 3]);
  const withPrefix = (rows: Variable | undefined, own: Variable) =>
    rows ? graph.concatenateRows(graph.repeatOuter(graph.permute(rows, [0, 2, 1, 3]), slots), own) : own;
  const allKeys = withPrefix(prefix?.keys, bySlot(keys, kvHeads));
  const allValues = withPrefix(prefix?.values, bySlot(values, kvHeads));
  const span = allKeys.shape[1];

  // The query heads of a group share their keys: folded into the token axis they become one product, and its gradient sums over them.
  const grouped = graph.reshape(bySlot(queries, heads), D, slotTokens * group, kvHeads, slots);
  const scores = graph.reshape(graph.matmul(allKeys, grouped), span, slotTokens, heads, slots);
  const weights = graph.softmax(scores, 1 / Math.sqrt(D), input.mask);
  const mixed = graph.matmul(
    graph.permute(allValues, [1, 0, 2, 3]),
    graph.reshape(weights, span, slotTokens * group, kvHeads, slots),
  );
  const joined = graph.permute(graph.reshape(mixed, D, slotTokens, heads, slots), [0, 2, 1, 3]);
  const output = graph.linear(layer.attentionOutput, graph.reshape(joined, D * heads, slots * slotTokens));
  return { keys, values, output };
}
