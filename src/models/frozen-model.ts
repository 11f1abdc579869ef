import { throwIfAborted } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import { GgmlType } from '../native/ggml.js';
import type { GgmlBufferType } from '../native/handles.js';
import type { Backend } from '../tensor/backend.js';
import type { FrozenMatrix, RopeSettings } from '../tensor/graph.js';
import { type StoredTensor, TensorStore } from '../tensor/tensor-store.js';
import type { GgufFile } from './gguf.js';
import { type Loading, loadTensor } from './load-tensor.js';
import type { StoredMatrix } from './matrix-rows.js';
import { layerTensorShapes, type ModelConfig, readModelConfig } from './model-config.js';
import { fittingType } from './weight-bytes.js';
import { WeightReader } from './weight-reader.js';

const TOKEN_EMBEDDING = 'token_embd.weight';

/** In which of ggml's types the frozen matrices are multiplied. */
export interface WeightTypes {
  forward: number;
  /** Type of the transposed copies for gradients; undefined makes none. */
  transposed: number | undefined;
  /** Rows of matrices in F32 lie apart for code that reads them column by column; only in memory of the processor. */
  spacesRows?: boolean;
  /** Where the matrices lie, when not in the device's default buffer type (AMX, repacking). */
  bufferType?: GgmlBufferType;
}

/** Dequantised weights, as exact as the file: for golden numbers and gradient checks. */
export const EXACT_WEIGHTS: WeightTypes = { forward: GgmlType.F32, transposed: GgmlType.F32 };

export interface FrozenLayer {
  attentionNorm: StoredTensor;
  query: FrozenMatrix;
  key: FrozenMatrix;
  value: FrozenMatrix;
  queryBias?: StoredTensor;
  keyBias?: StoredTensor;
  valueBias?: StoredTensor;
  queryNorm?: StoredTensor;
  keyNorm?: StoredTensor;
  attentionOutput: FrozenMatrix;
  feedForwardNorm: StoredTensor;
  gate: FrozenMatrix;
  up: FrozenMatrix;
  down: FrozenMatrix;
}

/**
 * The student's frozen weights on a device: every matrix once as the forward pass multiplies it and, for gradients, once
 * transposed. Token embeddings are read from the file when they are needed and not kept.
 */
export class FrozenModel {
  readonly backend: Backend;
  readonly config: ModelConfig;
  readonly types: WeightTypes;
  readonly layers: FrozenLayer[];
  readonly outputNorm: StoredTensor;
  readonly head: FrozenMatrix;
  readonly rope: RopeSettings;
  readonly #matrices: TensorStore;
  readonly #vectors: TensorStore;
  readonly #reader: WeightReader;

  private constructor(backend: Backend, config: ModelConfig, types: WeightTypes, reader: WeightReader, declared: Declared) {
    this.backend = backend;
    this.config = config;
    this.types = types;
    this.layers = declared.layers;
    this.outputNorm = declared.outputNorm;
    this.head = declared.head;
    this.rope = declared.rope;
    this.#matrices = declared.matrices;
    this.#vectors = declared.vectors;
    this.#reader = reader;
  }

  /**
   * Loads the weights. Throws `INVALID_MODEL`, `UNSUPPORTED_MODEL` or `OUT_OF_MEMORY`.
   *
   * @example
   * const model = await FrozenModel.load(backend, readGguf('model.gguf'), EXACT_WEIGHTS);
   */
  static async load(backend: Backend, gguf: GgufFile, types: WeightTypes, options: RunOptions = {}): Promise<FrozenModel> {
    const config = readModelConfig(gguf);
    const reader = await WeightReader.open(backend.engine, gguf);
    const declared = declareWeights(backend, config, gguf, types);
    const model = new FrozenModel(backend, config, types, reader, declared);
    try {
      declared.matrices.allocate('the weights of the model', types.bufferType);
      declared.vectors.allocate('the norms of the model');
      declared.matrices.markAsWeights();
      declared.vectors.markAsWeights();
      let done = 0;
      for (const loading of declared.loading) {
        throwIfAborted(options.signal);
        await loadTensor(backend.engine, reader, loading);
        options.onProgress?.({ kind: 'progress', stage: 'load', done: ++done, total: declared.loading.length });
      }
    } catch (error) {
      await model.dispose();
      throw error;
    }
    return model;
  }

  /** Bytes of the weights on the device. */
  get byteLength(): number {
    return this.#matrices.byteLength + this.#vectors.byteLength;
  }

  /** Embeddings of tokens as f32, [tokens, embedding]. */
  embed(tokens: Int32Array): Float32Array {
    return this.#reader.readRows(TOKEN_EMBEDDING, tokens);
  }

  /** Where the embeddings of tokens lie, [vocabulary, embedding], for threads that read them on their own. */
  get embeddingTable(): StoredMatrix {
    return this.#reader.locate(TOKEN_EMBEDDING);
  }

  async dispose(): Promise<void> {
    this.#matrices.dispose();
    this.#vectors.dispose();
    await this.#reader.close();
  }
}

interface Declared {
  matrices: TensorStore;
  vectors: TensorStore;
  layers: FrozenLayer[];
  outputNorm: StoredTensor;
  head: FrozenMatrix;
  rope: RopeSettings;
  loading: Loading[];
}

function declareWeights(backend: Backend, config: ModelConfig, gguf: GgufFile, types: WeightTypes): Declared {
  const capacity = (config.layers + 1) * 24;
  const matrices = new TensorStore(backend, capacity);
  const vectors = new TensorStore(backend, capacity);
  const loading: Loading[] = [];
  const vector = (name: string, length: number): StoredTensor => {
    const tensor = vectors.declare(GgmlType.F32, length);
    loading.push({ name, tensor, isTransposed: false, store: vectors });
    return tensor;
  };
  const matrix = (name: string, inputs: number, outputs: number): FrozenMatrix => {
    const type = fittingType(types.forward, inputs);
    const isSpaced = types.spacesRows && type === GgmlType.F32;
    const weight = isSpaced ? matrices.declareSpaced(inputs, outputs) : matrices.declare(type, inputs, outputs);
    loading.push({ name, tensor: weight, isTransposed: false, store: matrices });
    if (types.transposed === undefined) return { weight };
    const transposed = matrices.declare(fittingType(types.transposed, outputs), outputs, inputs);
    loading.push({ name, tensor: transposed, isTransposed: true, store: matrices });
    return { weight, transposed };
  };
  const shapes = layerTensorShapes(config);
  const layers = Array.from({ length: config.layers }, (_, index) => {
    const at = (name: string) => `blk.${index}.${name}`;
    const layerMatrix = (name: string) => matrix(at(name), shapes[name]![0]!, shapes[name]![1]!);
    const optional = (name: string) => (shapes[name] ? vector(at(name), shapes[name][0]!) : undefined);
    return {
      attentionNorm: vector(at('attn_norm.weight'), config.embedding),
      query: layerMatrix('attn_q.weight'),
      key: layerMatrix('attn_k.weight'),
      value: layerMatrix('attn_v.weight'),
      queryBias: optional('attn_q.bias'),
      keyBias: optional('attn_k.bias'),
      valueBias: optional('attn_v.bias'),
      queryNorm: optional('attn_q_norm.weight'),
      keyNorm: optional('attn_k_norm.weight'),
      attentionOutput: layerMatrix('attn_output.weight'),
      feedForwardNorm: vector(at('ffn_norm.weight'), config.embedding),
      gate: layerMatrix('ffn_gate.weight'),
      up: layerMatrix('ffn_up.weight'),
      down: layerMatrix('ffn_down.weight'),
    };
  });
  const factors = gguf.tensors.has('rope_freqs.weight') ? vector('rope_freqs.weight', config.headDimension / 2) : undefined;
  return {
    matrices,
    vectors,
    layers,
    outputNorm: vector('output_norm.weight', config.embedding),
    head: matrix(config.tiedEmbeddings ? TOKEN_EMBEDDING : 'output.weight', config.embedding, config.vocabularySize),
    rope: {
      mode: config.traits.ropePairs === 'halves' ? 2 : 0,
      dimensions: config.headDimension,
      base: config.ropeBase,
      factors,
    },
    loading,
  };
}
