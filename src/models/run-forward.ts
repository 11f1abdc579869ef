import { GgmlType } from '../native/ggml.js';
import { CompiledGraph } from '../tensor/compiled-graph.js';
import { Graph, type Variable } from '../tensor/graph.js';
import { type StoredTensor, TensorStore } from '../tensor/tensor-store.js';
import { buildForward, type PrefixLayer } from './forward.js';
import type { FrozenModel } from './frozen-model.js';

/** Keys and values of every layer, each [rows, Hkv, D] row-major, keys rotated for their positions. */
export interface KeyValueRows {
  keys: Float32Array[];
  values: Float32Array[];
}

export interface ForwardRequest {
  tokens: Int32Array;
  /** Rows in front of the tokens. */
  prefix?: KeyValueRows;
  /** Position of each token; by default they go on behind the prefix. */
  positions?: Int32Array;
  /** Tokens of different segments do not see each other; by default there is one. */
  segments?: Int32Array;
  wantLogits?: boolean;
}

export interface ForwardOutput extends KeyValueRows {
  /** [tokens, vocabulary] when they were asked for, else empty. */
  logits: Float32Array;
}

/** Runs the student's forward pass once over a text, for initial rows and comparisons; training has a graph of its own. */
export async function runForward(model: FrozenModel, request: ForwardRequest): Promise<ForwardOutput> {
  const { kvHeads, headDimension, vocabularySize } = model.config;
  const { tokens } = request;
  const rowValues = kvHeads * headDimension;
  const inputs = writeInputs(model, request);
  const graph = new Graph(model.backend);
  const { hidden, keyValues } = buildForward(graph, model, {
    slots: 1,
    slotTokens: tokens.length,
    embeddings: graph.constant(inputs.embeddings),
    positions: inputs.positions,
    mask: inputs.mask,
    ...(inputs.prefix && { prefix: constants(graph, inputs.prefix) }),
  });
  const logits = request.wantLogits ? graph.linear(model.head, hidden) : undefined;
  const outputs = keyValues.flatMap(({ keys, values }) => [keys.handle, values.handle]);
  const compiled = new CompiledGraph(graph, logits ? [logits.handle, ...outputs] : outputs);
  await compiled.compute();
  const read = (variable: Variable, count: number) => compiled.read(variable.handle, new Float32Array(count));
  const result = {
    logits: logits ? read(logits, tokens.length * vocabularySize) : new Float32Array(0),
    keys: keyValues.map((layer) => read(layer.keys, tokens.length * rowValues)),
    values: keyValues.map((layer) => read(layer.values, tokens.length * rowValues)),
  };
  compiled.dispose();
  inputs.store.dispose();
  return result;
}

interface PrefixTensors {
  keys: StoredTensor[];
  values: StoredTensor[];
}

function writeInputs(model: FrozenModel, { tokens, prefix, positions, segments }: ForwardRequest) {
  const { embedding, kvHeads, headDimension, layers } = model.config;
  const prefixRows = (prefix?.keys[0]?.length ?? 0) / (kvHeads * headDimension);
  const store = new TensorStore(model.backend, 3 + 2 * layers);
  const declareRows = (list: Float32Array[]) => list.map(() => store.declare(GgmlType.F32, headDimension, kvHeads, prefixRows));
  const tensors = {
    store,
    embeddings: store.declare(GgmlType.F32, embedding, tokens.length),
    positions: store.declare(GgmlType.I32, tokens.length),
    mask: store.declare(GgmlType.F32, prefixRows + tokens.length, tokens.length),
    prefix: prefix && prefixRows > 0 ? { keys: declareRows(prefix.keys), values: declareRows(prefix.values) } : undefined,
  };
  store.allocate('the text of a forward pass');
  store.write(tensors.embeddings, model.embed(tokens));
  store.write(tensors.positions, positions ?? Int32Array.from(tokens, (_token, index) => prefixRows + index));
  store.write(tensors.mask, causalMask(prefixRows, tokens.length, segments));
  for (const kind of ['keys', 'values'] as const) {
    tensors.prefix?.[kind].forEach((tensor, layer) => {
      store.write(tensor, prefix![kind][layer]!);
    });
  }
  return tensors;
}

function constants(graph: Graph, { keys, values }: PrefixTensors): PrefixLayer[] {
  return keys.map((tensor, layer) => ({ keys: graph.constant(tensor), values: graph.constant(values[layer]!) }));
}

/** [tokens, prefix + tokens]: every token sees the whole prefix, itself and what came before in its segment. */
function causalMask(prefixRows: number, tokens: number, segments: Int32Array | undefined): Float32Array {
  const span = prefixRows + tokens;
  const mask = new Float32Array(span * tokens).fill(Number.NEGATIVE_INFINITY);
  for (let row = 0; row < tokens; row++) {
    mask.fill(0, row * span, row * span + prefixRows);
    for (let other = 0; other <= row; other++) {
      if (!segments || segments[other] === segments[row]) mask[row * span + prefixRows + other] = 0;
    }
  }
  return mask;
}
