import { CartridgesError, throwIfAborted } from '../core/errors.js';
import { buildForward } from '../models/forward.js';
import type { FrozenModel } from '../models/frozen-model.js';
import { GgmlType } from '../native/ggml.js';
import type { GgmlTensor } from '../native/handles.js';
import { Adam, type AdamSettings, DEFAULT_ADAM } from '../tensor/adam.js';
import { CompiledGraph } from '../tensor/compiled-graph.js';
import { Graph } from '../tensor/graph.js';
import {
  declareSparseTargets,
  type SparseTargetChunk,
  sparseCrossEntropy,
  writeSparseTargets,
} from '../tensor/sparse-cross-entropy.js';
import { type StoredTensor, TensorStore } from '../tensor/tensor-store.js';
import { AttentionMask } from './attention-mask.js';
import type { Pack, PackShape } from './pack.js';
import type { CartridgeGradients, LossKind, StepLoss, TrainingState, TrainingStep } from './training-step.js';

export interface GraphStepOptions {
  shape: PackShape;
  /** Rows to start from, per layer [p, Hkv, D]; copied. */
  keys: readonly Float32Array[];
  values: readonly Float32Array[];
  frozenCount: number;
  loss?: LossKind;
  /** Upper bound of the gradient's norm; 0 does not clip. */
  gradientClip?: number;
  adam?: AdamSettings;
  /** Logits exist for this many bytes at a time. */
  logitChunkBytes?: number;
}

const LOGIT_CHUNK_BYTES = 32 << 20;

interface Inputs {
  store: TensorStore;
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

/**
 * The reference training step: one ggml graph with reverse mode, on any backend. The graph for the gradient and the one for
 * validation are built once for the shape of the packs; Adam runs on the host, since a cartridge is small.
 */
export class GraphStep implements TrainingStep {
  readonly plan: { bytes: number; description: string };
  readonly #model: FrozenModel;
  readonly #shape: PackShape;
  readonly #tokenCount: number;
  readonly #frozenValues: number;
  readonly #loss: LossKind;
  readonly #gradientClip: number;
  readonly #inputs: Inputs;
  readonly #training: Built;
  readonly #mask: AttentionMask;
  readonly #adam: Adam;
  #validation: Built | undefined;
  #rows: Float32Array[];
  #gradients: Float32Array[];
  #normalizer = 0;
  #rowsChanged = true;

  constructor(model: FrozenModel, options: GraphStepOptions) {
    const { layers, kvHeads, headDimension } = model.config;
    const rowValues = kvHeads * headDimension;
    this.#model = model;
    this.#shape = options.shape;
    this.#tokenCount = checkRows(options, layers, rowValues);
    this.#frozenValues = options.frozenCount * rowValues;
    this.#loss = options.loss ?? 'token-mean';
    this.#gradientClip = options.gradientClip ?? 0;
    this.#rows = [...options.keys, ...options.values].map((rows) => rows.slice());
    this.#gradients = this.#rows.map((rows) => new Float32Array(rows.length));
    this.#adam = new Adam(this.#rows, this.#frozenValues, options.adam ?? DEFAULT_ADAM);
    this.#mask = new AttentionMask(options.shape, this.#tokenCount);
    this.#inputs = declareInputs(model, options.shape, this.#tokenCount, options.logitChunkBytes ?? LOGIT_CHUNK_BYTES);
    this.#training = this.#build(true);
    this.plan = this.#describePlan();
  }

  async accumulate(pack: Pack, signal?: AbortSignal): Promise<StepLoss> {
    const loss = await this.#run(this.#training, pack, signal);
    const scratch = new Float32Array(this.#gradients[0]!.length);
    this.#training.gradients.forEach((tensor, index) => {
      this.#training.graph.read(tensor, scratch);
      const sum = this.#gradients[index]!;
      for (let i = this.#frozenValues; i < sum.length; i++) sum[i]! += scratch[i]!;
    });
    this.#normalizer += loss.normalizer;
    return loss;
  }

  async evaluate(pack: Pack, signal?: AbortSignal): Promise<StepLoss> {
    this.#validation ??= this.#build(false);
    return this.#run(this.#validation, pack, signal);
  }

  async update(learningRate: number): Promise<{ gradientNorm: number }> {
    if (this.#normalizer === 0) throw new CartridgesError('INTERNAL', 'an update without a supervised token');
    const scale = 1 / this.#normalizer;
    const gradientNorm = Math.sqrt(sumOfSquares(this.#gradients)) * scale;
    const clip = this.#gradientClip > 0 && gradientNorm > this.#gradientClip ? this.#gradientClip / gradientNorm : 1;
    this.#adam.update(this.#rows, this.#gradients, scale * clip, learningRate);
    this.#clearGradients();
    this.#rowsChanged = true;
    return { gradientNorm };
  }

  gradients(): CartridgeGradients {
    return this.#byKind(this.#gradients);
  }

  state(): TrainingState {
    return { ...this.#byKind(this.#rows), adam: this.#adam.state() };
  }

  restore(state: TrainingState): void {
    this.#rows = [...state.keys, ...state.values].map((rows) => rows.slice());
    this.#adam.restore(state.adam);
    this.#clearGradients();
    this.#rowsChanged = true;
  }

  dispose(): void {
    this.#training.graph.dispose();
    this.#validation?.graph.dispose();
    this.#inputs.store.dispose();
  }

  async #run(built: Built, pack: Pack, signal: AbortSignal | undefined): Promise<StepLoss> {
    throwIfAborted(signal);
    this.#writePack(pack);
    if (this.#rowsChanged) this.#writeRows();
    await built.graph.compute();
    return this.#lossOf(built, pack);
  }

  #writePack(pack: Pack): void {
    const { store, embeddings, positions, mask, rows, targets } = this.#inputs;
    store.write(embeddings, this.#model.embed(pack.tokens));
    store.write(
      positions,
      pack.positions.map((position) => position + this.#tokenCount),
    );
    store.write(mask, this.#mask.of(pack));
    store.write(rows, pack.rows);
    writeSparseTargets(store, targets, this.#shape.entriesPerRow, pack.tokenIds, pack.weights);
  }

  #writeRows(): void {
    const { store, keys, values } = this.#inputs;
    [...keys, ...values].forEach((tensor, index) => {
      store.write(tensor, this.#rows[index]!);
    });
    this.#rowsChanged = false;
  }

  /** The loss is summed on the host in doubles from the log-probabilities of the teacher's entries. */
  #lossOf(built: Built, pack: Pack): StepLoss {
    const { supervisedRows, entriesPerRow } = this.#shape;
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
    const normalizer = this.#loss === 'token-mean' ? pack.supervisedTokens : pack.entries;
    return { lossSum, klSum: lossSum + pack.weightedLogprobSum, normalizer };
  }

  #build(withGradients: boolean): Built {
    const graph = new Graph(this.#model.backend);
    const { embeddings, positions, mask, rows, targets, keys, values } = this.#inputs;
    const leaf = (tensor: StoredTensor) => (withGradients ? graph.parameter(tensor) : graph.constant(tensor));
    const prefix = keys.map((key, layer) => ({ keys: leaf(key), values: leaf(values[layer]!) }));
    const { hidden } = buildForward(graph, this.#model, {
      slots: this.#shape.slots,
      slotTokens: this.#shape.slotTokens,
      embeddings: graph.constant(embeddings),
      positions,
      mask,
      prefix,
      outputRows: rows,
    });
    const { logProbabilities, hiddenGradient } = sparseCrossEntropy(graph, this.#model.head, hidden, targets);
    const parameters = [...prefix.map((layer) => layer.keys), ...prefix.map((layer) => layer.values)];
    const gradients = hiddenGradient ? graph.gradients([[hidden, hiddenGradient]], parameters) : [];
    return { graph: new CompiledGraph(graph, [...logProbabilities, ...gradients]), logProbabilities, gradients };
  }

  #clearGradients(): void {
    for (const gradient of this.#gradients) gradient.fill(0);
    this.#normalizer = 0;
  }

  #byKind(arrays: readonly Float32Array[]): CartridgeGradients {
    const copies = arrays.map((array) => array.slice());
    const { layers } = this.#model.config;
    return { keys: copies.slice(0, layers), values: copies.slice(layers) };
  }

  #describePlan(): { bytes: number; description: string } {
    const cartridge = this.#rows.reduce((sum, rows) => sum + rows.byteLength, 0);
    const parts = {
      weights: this.#model.byteLength,
      'intermediate results': this.#training.graph.byteLength,
      inputs: this.#inputs.store.byteLength,
      // Rows, gradients, two moments, and the rows again on the device.
      'cartridge and optimiser': cartridge * 5,
    };
    const bytes = Object.values(parts).reduce((sum, part) => sum + part, 0);
    const mebibytes = (count: number) => `${(count / 2 ** 20).toFixed(1)} MiB`;
    const description = Object.entries(parts)
      .map(([name, count]) => `${name} ${mebibytes(count)}`)
      .join(', ');
    return { bytes, description: `${mebibytes(bytes)}: ${description}` };
  }
}

function declareInputs(model: FrozenModel, shape: PackShape, tokenCount: number, logitChunkBytes: number): Inputs {
  const { layers, kvHeads, headDimension, embedding, vocabularySize } = model.config;
  const tokens = shape.slots * shape.slotTokens;
  const chunkRows = Math.max(1, Math.floor(logitChunkBytes / (vocabularySize * Float32Array.BYTES_PER_ELEMENT)));
  const chunks = Math.ceil(shape.supervisedRows / chunkRows);
  const store = new TensorStore(model.backend, 4 + 3 * chunks + 2 * layers);
  const rows = () => Array.from({ length: layers }, () => store.declare(GgmlType.F32, headDimension, kvHeads, tokenCount));
  const inputs: Inputs = {
    store,
    embeddings: store.declare(GgmlType.F32, embedding, tokens),
    positions: store.declare(GgmlType.I32, tokens),
    mask: store.declare(GgmlType.F32, tokenCount + shape.slotTokens, shape.slotTokens, 1, shape.slots),
    rows: store.declare(GgmlType.I32, shape.supervisedRows),
    // Equal chunks, so that the last one is not a small one that costs as many nodes.
    targets: declareSparseTargets(store, shape.supervisedRows, shape.entriesPerRow, Math.ceil(shape.supervisedRows / chunks)),
    keys: rows(),
    values: rows(),
  };
  store.allocate('the inputs of a training step');
  return inputs;
}

function checkRows(options: GraphStepOptions, layers: number, rowValues: number): number {
  const tokenCount = (options.keys[0]?.length ?? 0) / rowValues;
  const fits = (rows: readonly Float32Array[]) =>
    rows.length === layers && rows.every((row) => row.length === tokenCount * rowValues);
  if (tokenCount > 0 && Number.isInteger(tokenCount) && fits(options.keys) && fits(options.values)) return tokenCount;
  throw new CartridgesError('INTERNAL', 'the rows of the cartridge do not fit the model');
}

function sumOfSquares(arrays: readonly Float32Array[]): number {
  let sum = 0;
  for (const array of arrays) for (let i = 0; i < array.length; i++) sum += array[i]! * array[i]!;
  return sum;
}
