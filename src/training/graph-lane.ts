import { buildForward } from '../models/forward.js';
import type { FrozenModel } from '../models/frozen-model.js';
import { GgmlType } from '../native/ggml.js';
import type { GgmlBackend, GgmlTensor } from '../native/handles.js';
import { CompiledGraph } from '../tensor/compiled-graph.js';
import { Graph, type Variable } from '../tensor/graph.js';
import {
  declareSparseTargets,
  type SparseTargetChunk,
  sparseCrossEntropy,
  writeSparseTargets,
} from '../tensor/sparse-cross-entropy.js';
import { type StoredTensor, TensorStore } from '../tensor/tensor-store.js';
import { AttentionMask } from './attention-mask.js';
import type { Pack, PackShape } from './pack.js';
import { RowTensors } from './row-tensors.js';

export interface LaneOptions {
  shape: PackShape;
  /** The rows of the cartridge, which all lanes read. */
  cartridge: RowTensors;
  /** Logits exist for this many bytes at a time. */
  logitChunkBytes: number;
  /** Layers whose activations are computed again for the gradient. */
  recomputedLayers: number;
  /** Where the lane computes. */
  backend: GgmlBackend;
}

interface Inputs {
  embeddings: StoredTensor;
  positions: StoredTensor;
  mask: StoredTensor;
  rows: StoredTensor;
  targets: SparseTargetChunk[];
}

interface Built {
  graph: CompiledGraph;
  logProbabilities: GgmlTensor[];
}

/** One lane of a graph step: the graphs for one pack, their inputs, and the sum of the gradients that were computed here. */
export class GraphLane {
  readonly gradientSums: RowTensors;
  readonly #model: FrozenModel;
  readonly #options: LaneOptions;
  readonly #store: TensorStore;
  readonly #inputs: Inputs;
  readonly #mask: AttentionMask;
  readonly #graphs: CompiledGraph[] = [];
  readonly #training: Built;
  readonly #validation: Built;

  /** Throws `OUT_OF_MEMORY`. */
  constructor(model: FrozenModel, options: LaneOptions) {
    this.#model = model;
    this.#options = options;
    this.gradientSums = new RowTensors(model, options.cartridge.tokenCount, 'the gradient of a cartridge');
    this.#store = new TensorStore(model.backend, inputCount(model, options));
    this.#inputs = declareInputs(this.#store, model, options);
    this.#mask = new AttentionMask(options.shape, options.cartridge.tokenCount);
    try {
      this.#store.allocate('the inputs of a training step');
      this.#training = this.#build(true);
      this.#validation = this.#build(false);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Where it computes. */
  get backend(): GgmlBackend {
    return this.#options.backend;
  }

  /** Bytes of intermediate results, of training and of validation, of inputs, and of the gradient. */
  get byteLengths(): { results: number; inputs: number; gradients: number } {
    const results = this.#training.graph.byteLength + this.#validation.graph.byteLength;
    return { results, inputs: this.#store.byteLength, gradients: this.gradientSums.byteLength };
  }

  /** Adds the gradient of a pack to {@link gradientSums}; returns Σ −weight · log-probability over its entries. */
  accumulate(pack: Pack): Promise<number> {
    return this.#run(this.#training, pack);
  }

  /** The loss of a pack alone. */
  evaluate(pack: Pack): Promise<number> {
    return this.#run(this.#validation, pack);
  }

  dispose(): void {
    for (const graph of this.#graphs) graph.dispose();
    this.#store.dispose();
    this.gradientSums.dispose();
  }

  async #run(built: Built, pack: Pack): Promise<number> {
    await this.#writePack(pack);
    await built.graph.compute();
    return this.#lossOf(built, pack);
  }

  async #writePack(pack: Pack): Promise<void> {
    const { embeddings, positions, mask, rows, targets } = this.#inputs;
    const { shape, cartridge } = this.#options;
    this.#store.write(embeddings, this.#model.embed(pack.tokens));
    this.#store.write(
      positions,
      pack.positions.map((position) => position + cartridge.tokenCount),
    );
    // Each token has a row of the mask as long as the cartridge.
    await this.#store.writeInSlices([mask], [this.#mask.of(pack)]);
    this.#store.write(rows, pack.rows);
    writeSparseTargets(this.#store, targets, shape.entriesPerRow, pack.tokenIds, pack.weights);
  }

  /** Summed on the host in doubles from the log-probabilities of the teacher's entries. */
  #lossOf(built: Built, pack: Pack): number {
    const { supervisedRows, entriesPerRow } = this.#options.shape;
    const logProbabilities = new Float32Array(supervisedRows * entriesPerRow);
    let first = 0;
    built.logProbabilities.forEach((tensor, index) => {
      const end = first + this.#inputs.targets[index]!.rows * entriesPerRow;
      built.graph.read(tensor, logProbabilities.subarray(first, end));
      first = end;
    });
    let lossSum = 0;
    pack.weights.forEach((weight, entry) => {
      if (weight > 0) lossSum -= weight * logProbabilities[entry]!;
    });
    return lossSum;
  }

  #build(withGradients: boolean): Built {
    const graph = new Graph(this.#model.backend);
    const { embeddings, positions, mask, rows, targets } = this.#inputs;
    const prefix = this.#prefix(graph, withGradients);
    const { hidden } = buildForward(graph, this.#model, {
      slots: this.#options.shape.slots,
      slotTokens: this.#options.shape.slotTokens,
      embeddings: graph.constant(embeddings),
      positions,
      mask,
      prefix,
      outputRows: rows,
      recomputedLayers: this.#options.recomputedLayers,
    });
    const { logProbabilities, hiddenGradient } = sparseCrossEntropy(graph, this.#model.head, hidden, targets);
    const parameters = [...prefix.map((layer) => layer.keys), ...prefix.map((layer) => layer.values)];
    if (hiddenGradient) graph.gradients([[hidden, hiddenGradient]], parameters);
    const compiled = new CompiledGraph(graph, logProbabilities, this.#options.backend);
    this.#graphs.push(compiled);
    return { graph: compiled, logProbabilities };
  }

  /** Rows of the cartridge by layer; their gradients go into the sums. */
  #prefix(graph: Graph, withGradients: boolean): { keys: Variable; values: Variable }[] {
    const { cartridge } = this.#options;
    const leaf = (tensor: StoredTensor, sum: StoredTensor) =>
      withGradients ? graph.parameter(tensor, sum) : graph.constant(tensor);
    return cartridge.keys.map((keys, layer) => ({
      keys: leaf(keys, this.gradientSums.keys[layer]!),
      values: leaf(cartridge.values[layer]!, this.gradientSums.values[layer]!),
    }));
  }
}

/** Rows of one chunk of logits: equal chunks, so that the last one is not a small one that costs as many nodes. */
function chunkRowsOf(model: FrozenModel, { shape, logitChunkBytes }: LaneOptions): number {
  const rowBytes = model.config.vocabularySize * Float32Array.BYTES_PER_ELEMENT;
  const chunks = Math.ceil(shape.supervisedRows / Math.max(1, Math.floor(logitChunkBytes / rowBytes)));
  return Math.ceil(shape.supervisedRows / chunks);
}

function inputCount(model: FrozenModel, options: LaneOptions): number {
  const TENSORS_PER_CHUNK = 3;
  return 4 + TENSORS_PER_CHUNK * Math.ceil(options.shape.supervisedRows / chunkRowsOf(model, options));
}

function declareInputs(store: TensorStore, model: FrozenModel, options: LaneOptions): Inputs {
  const { shape, cartridge } = options;
  const tokens = shape.slots * shape.slotTokens;
  return {
    embeddings: store.declare(GgmlType.F32, model.config.embedding, tokens),
    positions: store.declare(GgmlType.I32, tokens),
    mask: store.declare(GgmlType.F32, cartridge.tokenCount + shape.slotTokens, shape.slotTokens, 1, shape.slots),
    rows: store.declare(GgmlType.I32, shape.supervisedRows),
    targets: declareSparseTargets(store, shape.supervisedRows, shape.entriesPerRow, chunkRowsOf(model, options)),
  };
}
