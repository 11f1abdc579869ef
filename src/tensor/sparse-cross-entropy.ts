import { GgmlType } from '../native/ggml.js';
import type { GgmlTensor } from '../native/handles.js';
import { frozenProduct } from './frozen-product.js';
import type { FrozenMatrix, Graph, Variable } from './graph.js';
import type { StoredTensor, TensorStore } from './tensor-store.js';

/** Inputs of one chunk of rows: `classIds` I32 [k, rows], `shares` F32 [k, rows] and `rowWeights` F32 [1, rows]. */
export interface SparseTargetChunk {
  rows: number;
  classIds: StoredTensor;
  shares: StoredTensor;
  rowWeights: StoredTensor;
}

/** Declares the inputs for `rows` rows of `k` entries in chunks of at most `chunkRows`. */
export function declareSparseTargets(store: TensorStore, rows: number, k: number, chunkRows: number): SparseTargetChunk[] {
  const chunks: SparseTargetChunk[] = [];
  for (let first = 0; first < rows; first += chunkRows) {
    const count = Math.min(chunkRows, rows - first);
    chunks.push({
      rows: count,
      classIds: store.declare(GgmlType.I32, k, count),
      shares: store.declare(GgmlType.F32, k, count),
      rowWeights: store.declare(GgmlType.F32, 1, count),
    });
  }
  return chunks;
}

/**
 * Writes targets: row r has weight `weights[r·k + i]` on class `ids[r·k + i]`. Ids of one row must differ, entries that a row
 * does not have carry weight 0 and any id that the row does not use.
 */
export function writeSparseTargets(
  store: TensorStore,
  chunks: readonly SparseTargetChunk[],
  k: number,
  ids: Int32Array,
  weights: Float32Array,
): void {
  let first = 0;
  for (const chunk of chunks) {
    const range = [first * k, (first + chunk.rows) * k] as const;
    const rowWeights = new Float32Array(chunk.rows);
    const shares = weights.slice(...range);
    for (let row = 0; row < chunk.rows; row++) {
      let sum = 0;
      for (let i = row * k; i < (row + 1) * k; i++) sum += shares[i]!;
      rowWeights[row] = sum;
      if (sum > 0) for (let i = row * k; i < (row + 1) * k; i++) shares[i]! /= sum;
    }
    store.write(chunk.classIds, ids.subarray(...range));
    store.write(chunk.shares, shares);
    store.write(chunk.rowWeights, rowWeights);
    first += chunk.rows;
  }
}

export interface SparseCrossEntropy {
  /** Per chunk the log-probability of each target class, F32 [k, rows]: the loss is −Σ weight · log-probability. */
  logProbabilities: GgmlTensor[];
  /** Gradient of the loss with respect to `hidden`, [n, rows]; absent when none was asked for. */
  hiddenGradient: GgmlTensor | undefined;
}

/**
 * Cross-entropy between sparse target distributions and softmax(hidden · Wᵀ) over all classes, without a dense label tensor:
 * logits and softmax exist for one chunk of rows at a time. The gradient is Wᵀᵀ · (softmax − share) · rowWeight.
 */
export function sparseCrossEntropy(
  graph: Graph,
  head: FrozenMatrix,
  hidden: Variable,
  chunks: readonly SparseTargetChunk[],
): SparseCrossEntropy {
  const logProbabilities: GgmlTensor[] = [];
  let hiddenGradient: GgmlTensor | undefined;
  let first = 0;
  for (const chunk of chunks) {
    const part = crossEntropyOfChunk(graph, head, hidden, first, chunk);
    logProbabilities.push(part.logProbabilities);
    graph.computeFirst(part.logProbabilities);
    if (part.gradient) {
      // Before the next chunk: its softmax is not needed any more then.
      graph.computeFirst(part.gradient);
      const { ggml } = graph.backend.engine;
      hiddenGradient = hiddenGradient ? ggml.ggml_concat(graph.context, hiddenGradient, part.gradient, 1) : part.gradient;
    }
    first += chunk.rows;
  }
  return { logProbabilities, hiddenGradient };
}

function crossEntropyOfChunk(graph: Graph, head: FrozenMatrix, hidden: Variable, firstRow: number, chunk: SparseTargetChunk) {
  const { ggml } = graph.backend.engine;
  const { context } = graph;
  const { rows } = chunk;
  const [inputs, classes] = head.weight.shape;
  const k = chunk.classIds.shape[0];
  const rowBytes = inputs * Float32Array.BYTES_PER_ELEMENT;
  const x = ggml.ggml_view_4d(
    context,
    hidden.handle,
    inputs,
    rows,
    1,
    1,
    rowBytes,
    rowBytes * rows,
    rowBytes * rows,
    firstRow * rowBytes,
  );
  const logits = frozenProduct(ggml, context, head.weight, x);
  const probabilities = ggml.ggml_soft_max_ext(context, logits, null, 1, 0);
  // Looking values up by class needs each row's classes along axis 1: [1, classes, rows].
  const byClass = (tensor: GgmlTensor) => ggml.ggml_reshape_4d(context, tensor, 1, classes, rows, 1);
  const lookUp = (tensor: GgmlTensor, ids: GgmlTensor, count: number) =>
    ggml.ggml_reshape_4d(context, ggml.ggml_get_rows(context, byClass(tensor), ids), count, rows, 1, 1);
  const best = ggml.ggml_reshape_4d(context, ggml.ggml_argmax(context, logits), 1, rows, 1, 1);
  // log Σ exp = largest logit − log of its probability, which cannot underflow.
  const logSumExp = ggml.ggml_sub(context, lookUp(logits, best, 1), ggml.ggml_log(context, lookUp(probabilities, best, 1)));
  const logProbabilities = ggml.ggml_sub(context, lookUp(logits, chunk.classIds.handle, k), logSumExp);
  if (!hidden.requiresGradient) return { logProbabilities, gradient: undefined };

  const corrected = ggml.ggml_sub(context, lookUp(probabilities, chunk.classIds.handle, k), chunk.shares.handle);
  const difference = ggml.ggml_set_rows(
    context,
    byClass(probabilities),
    ggml.ggml_reshape_4d(context, corrected, 1, k, rows, 1),
    chunk.classIds.handle,
  );
  const logitGradient = ggml.ggml_reshape_4d(context, difference, classes, rows, 1, 1);
  const gradient = ggml.ggml_mul(context, frozenProduct(ggml, context, head.transposed!, logitGradient), chunk.rowWeights.handle);
  return { logProbabilities, gradient };
}
