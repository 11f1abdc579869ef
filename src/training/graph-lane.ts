import { inSlices, SLICE_VALUES } from '../core/slices.js';
import { buildForward } from '../models/forward.js';
import type { FrozenModel } from '../models/frozen-model.js';
import { GgmlType } from '../native/ggml.js';
import type { GgmlBackend, GgmlTensor } from '../native/handles.js';
import { CompiledGraph } from '../tensor/compiled-graph.js';
import { Graph } from '../tensor/graph.js';
import {
  declareSparseTargets,
  type SparseTargetChunk,
  sparseCrossEntropy,
  writeSparseTargets,
} from '../tensor/sparse-cross-entropy.js';
import { addTo } from '../tensor/sums.js';
import { type StoredTensor, TensorStore } from '../tensor/tensor-store.js';
import { AttentionMask } from './attention-mask.js';
import type { Pack, PackShape } from './pack.js';

export interface LaneOptions {
  shape: PackShape;
  /** Rows of the cartridge. */
  tokenCount: number;
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
  keys: StoredTensor[];
  values: StoredTensor[];
}

interface Built {
  graph: CompiledGraph;
  logProbabilities: GgmlTensor[];
  gradients: GgmlTensor[];
}

/** One lane of a graph step: the graphs for one pack, their inputs, and the sum of the gradients that were computed here. */
export class GraphLane {
  /** Keys of all layers, then values of all layers, each [p, Hkv, D]. */
  readonly gradients: Float32Array[];
  readonly #model: FrozenModel;
  readonly #options: LaneOptions;
  readonly #store: TensorStore;
  readonly #inputs: Inputs;
  readonly #mask: AttentionMask;
  readonly #scratch: Float32Array;
  readonly #graphs: CompiledGraph[] = [];
  readonly #training: Built;
  readonly #validation: Built;

  /** Throws `OUT_OF_MEMORY`. */
  constructor(model: FrozenModel, options: LaneOptions) {
    this.#model = model;
    this.#options = options;
    this.#store = new TensorStore(model.backend, inputCount(model, options));
    this.#inputs = declareInputs(this.#store, model, options);
    this.#mask = new AttentionMask(options.shape, options.tokenCount);
    try {
      this.#store.allocate('the inputs of a training step');
      this.#training = this.#build(true);
      this.#validation = this.#build(false);
    } catch (error) {
      this.dispose();
      throw error;
    }
    const { layers, kvHeads, headDimension } = model.config;
    const values = options.tokenCount * kvHeads * headDimension;
    this.gradients = Array.from({ length: 2 * layers }, () => new Float32Array(values));
    this.#scratch = new Float32Array(SLICE_VALUES);
  }

  /** Bytes of intermediate results, of training and of validation, and of inputs. */
  get byteLengths(): { results: number; inputs: number } {
    const results = this.#training.graph.byteLength + this.#validation.graph.byteLength;
    return { results, inputs: this.#store.byteLength };
  }

  /** Puts the cartridge's rows where the graphs read them: keys of all layers, then values. */
  async writeRows(rows: readonly Float32Array[]): Promise<void> {
    await this.#write([...this.#inputs.keys, ...this.#inputs.values], rows);
  }

  /** Adds the gradients of a pack to {@link gradients}; returns Σ −weight · log-probability over its entries. */
  async accumulate(pack: Pack): Promise<number> {
    const lossSum = await this.#run(this.#training, pack);
    const { graph, gradients } = this.#training;
    await inSlices(this.gradients, (index, first, end) => {
      const slice = graph.read(gradients[index]!, this.#scratch.subarray(0, end - first), first);
      addTo(this.gradients[index]!.subarray(first, end), slice);
    });
    return lossSum;
  }

  /** The loss of a pack alone. */
  async evaluate(pack: Pack): Promise<number> {
    return this.#run(this.#validation, pack);
  }

  async clearGradients(): Promise<void> {
    await inSlices(this.gradients, (index, first, end) => {
      this.gradients[index]!.fill(0, first, end);
    });
  }

  dispose(): void {
    for (const graph of this.#graphs) graph.dispose();
    this.#store.dispose();
  }

  async #run(built: Built, pack: Pack): Promise<number> {
    await this.#writePack(pack);
    await built.graph.compute();
    return this.#lossOf(built, pack);
  }

  async #writePack(pack: Pack): Promise<void> {
    const { embeddings, positions, mask, rows, targets } = this.#inputs;
    const { shape, tokenCount } = this.#options;
    this.#store.write(embeddings, this.#model.embed(pack.tokens));
    this.#store.write(
      positions,
      pack.positions.map((position) => position + tokenCount),
    );
    await this.#write([mask], [this.#mask.of(pack)]);
    this.#store.write(rows, pack.rows);
    writeSparseTargets(this.#store, targets, shape.entriesPerRow, pack.tokenIds, pack.weights);
  }

  /** In slices: each token has a row of the mask as long as the cartridge. */
  async #write(tensors: readonly StoredTensor[], values: readonly Float32Array[]): Promise<void> {
    await inSlices(values, (index, first, end) => {
      const slice = values[index]!.subarray(first, end);
      this.#store.write(tensors[index]!, slice, first * slice.BYTES_PER_ELEMENT);
    });
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
    const { embeddings, positions, mask, rows, targets, keys, values } = this.#inputs;
    const leaf = (tensor: StoredTensor) => (withGradients ? graph.parameter(tensor) : graph.constant(tensor));
    const prefix = keys.map((key, layer) => ({ keys: leaf(key), values: leaf(values[layer]!) }));
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
    const gradients = hiddenGradient ? graph.gradients([[hidden, hiddenGradient]], parameters) : [];
    const compiled = new CompiledGraph(graph, [...logProbabilities, ...gradients], this.#options.backend);
    this.#graphs.push(compiled);
    return { graph: compiled, logProbabilities, gradients };
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
  return 4 + 2 * model.config.layers + TENSORS_PER_CHUNK * Math.ceil(options.shape.supervisedRows / chunkRowsOf(model, options));
}

function declareInputs(store: TensorStore, model: FrozenModel, options: LaneOptions): Inputs {
  const { layers, kvHeads, headDimension, embedding } = model.config;
  const { shape, tokenCount } = options;
  const tokens = shape.slots * shape.slotTokens;
  const rows = () => Array.from({ length: layers }, () => store.declare(GgmlType.F32, headDimension, kvHeads, tokenCount));
  return {
    embeddings: store.declare(GgmlType.F32, embedding, tokens),
    positions: store.declare(GgmlType.I32, tokens),
    mask: store.declare(GgmlType.F32, tokenCount + shape.slotTokens, shape.slotTokens, 1, shape.slots),
    rows: store.declare(GgmlType.I32, shape.supervisedRows),
    targets: declareSparseTargets(store, shape.supervisedRows, shape.entriesPerRow, chunkRowsOf(model, options)),
    keys: rows(),
    values: rows(),
  };
}
