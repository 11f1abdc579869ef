import { throwIfAborted } from '../../core/errors.js';
import type { RunOptions } from '../../core/progress.js';
import { buildForward, type PrefixLayer } from '../../models/forward.js';
import type { FrozenModel } from '../../models/frozen-model.js';
import { GgmlType } from '../../native/ggml.js';
import { CompiledGraph } from '../../tensor/compiled-graph.js';
import { Graph } from '../../tensor/graph.js';
import { type StoredTensor, TensorStore } from '../../tensor/tensor-store.js';

/** Rows of every layer, [rows, Hkv, D] row-major. */
export interface Rows {
  keys: Float32Array[];
  values: Float32Array[];
}

/** Tokens that one pass reads: the scores of a pass grow with its square, and a longer text goes in several. */
const PASS_TOKENS = 512;

/** The keys (rotated for positions 0 … n − 1) and values that the model computes for a text: what a prefill would leave behind. */
export async function computeTextRows(model: FrozenModel, tokens: Int32Array, options: RunOptions = {}): Promise<Rows> {
  const rows: Rows = emptyRows(model.config.layers);
  for (let start = 0; start < tokens.length; start += PASS_TOKENS) {
    throwIfAborted(options.signal);
    const next = await computePass(model, tokens.subarray(start, start + PASS_TOKENS), rows);
    appendRows(rows, next);
  }
  return rows;
}

function emptyRows(layers: number): Rows {
  const empty = () => Array.from({ length: layers }, () => new Float32Array(0));
  return { keys: empty(), values: empty() };
}

function appendRows(rows: Rows, next: Rows): void {
  for (const kind of ['keys', 'values'] as const) {
    rows[kind] = rows[kind].map((layer, index) => {
      const joined = new Float32Array(layer.length + next[kind][index]!.length);
      joined.set(layer);
      joined.set(next[kind][index]!, layer.length);
      return joined;
    });
  }
}

async function computePass(model: FrozenModel, tokens: Int32Array, before: Rows): Promise<Rows> {
  const { embedding, kvHeads, headDimension, layers } = model.config;
  const rowValues = kvHeads * headDimension;
  const beforeTokens = before.keys[0]!.length / rowValues;
  const store = new TensorStore(model.backend, 3 + 2 * layers);
  const embeddings = store.declare(GgmlType.F32, embedding, tokens.length);
  const positions = store.declare(GgmlType.I32, tokens.length);
  const mask = store.declare(GgmlType.F32, beforeTokens + tokens.length, tokens.length);
  const declare = (list: Float32Array[]) =>
    beforeTokens > 0 ? list.map(() => store.declare(GgmlType.F32, headDimension, kvHeads, beforeTokens)) : [];
  const prefixTensors = { keys: declare(before.keys), values: declare(before.values) };
  store.allocate('the text of an initializer');
  store.write(embeddings, model.embed(tokens));
  store.write(
    positions,
    Int32Array.from(tokens, (_token, index) => beforeTokens + index),
  );
  store.write(mask, causalMask(beforeTokens, tokens.length));
  for (const kind of ['keys', 'values'] as const) {
    prefixTensors[kind].forEach((tensor, layer) => {
      store.write(tensor, before[kind][layer]!);
    });
  }
  const graph = new Graph(model.backend);
  const { keyValues } = buildForward(graph, model, {
    slots: 1,
    slotTokens: tokens.length,
    embeddings: graph.constant(embeddings),
    positions,
    mask,
    ...(beforeTokens > 0 && { prefix: prefixOf(graph, prefixTensors) }),
  });
  const outputs = keyValues.flatMap(({ keys, values }) => [keys.handle, values.handle]);
  const compiled = new CompiledGraph(graph, outputs);
  await compiled.compute();
  const read = (kind: keyof PrefixLayer) =>
    keyValues.map((layer) => compiled.read(layer[kind].handle, new Float32Array(tokens.length * rowValues)));
  const rows = { keys: read('keys'), values: read('values') };
  compiled.dispose();
  store.dispose();
  return rows;
}

function prefixOf(graph: Graph, tensors: { keys: StoredTensor[]; values: StoredTensor[] }): PrefixLayer[] {
  return tensors.keys.map((keys, layer) => ({ keys: graph.constant(keys), values: graph.constant(tensors.values[layer]!) }));
}

function causalMask(beforeTokens: number, tokens: number): Float32Array {
  const span = beforeTokens + tokens;
  const mask = new Float32Array(span * tokens).fill(Number.NEGATIVE_INFINITY);
  for (let row = 0; row < tokens; row++) mask.fill(0, row * span, row * span + beforeTokens + row + 1);
  return mask;
}
