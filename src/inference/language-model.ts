import { CartridgesError, throwIfAborted } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import { readGguf } from '../models/gguf.js';
import { type ModelConfig, readModelConfig } from '../models/model-config.js';
import { LlamaTokenizer } from '../models/tokenizer.js';
import { chooseDevice, type Device, listDevices, resolveThreads } from '../native/devices.js';
import { type Engine, loadEngine } from '../native/engine.js';
import type { LlamaModel } from '../native/handles.js';
import { callAsync } from '../native/koffi.js';
import { type EngineSettings, InferenceEngine } from './inference-engine.js';
import type { CacheShape } from './llama-sequence-context.js';

export interface LanguageModelOptions extends RunOptions {
  modelPath: string;
  /** A copy of the model with weights in another type, to compute with; by default the model itself. */
  weightsPath?: string;
  /** `auto` (a GPU when there is one), `cpu`, or a device's name. */
  device?: string;
  /** 0 means one for each processor. */
  threads?: number;
  /** Layers on the GPU; by default all of them. */
  gpuLayers?: number;
  /** Let the engine lay weights out anew where its processor code is faster so (repacking, AMX). On by default. */
  extraBuffers?: boolean;
  engine?: Engine;
}

const ALL_LAYERS = -1;
/** `enum llama_split_mode`: the whole model on one device. */
const SPLIT_NONE = 0;

/** A GGUF that libllama has loaded, for inference. It owns the weights and the engines made from it. */
export class LanguageModel {
  readonly path: string;
  /** Of the file whose weights are in memory. */
  readonly byteLength: number;
  readonly engine: Engine;
  readonly handle: LlamaModel;
  readonly config: ModelConfig;
  readonly tokenizer: LlamaTokenizer;
  readonly device: Device;
  readonly threads: number;
  /** Those that are being made included. */
  readonly #contexts = new Set<Promise<InferenceEngine>>();
  #disposed: Promise<void> | undefined;

  private constructor(
    fields: Pick<LanguageModel, 'path' | 'byteLength' | 'engine' | 'handle' | 'config' | 'device' | 'threads'>,
  ) {
    this.path = fields.path;
    this.byteLength = fields.byteLength;
    this.engine = fields.engine;
    this.handle = fields.handle;
    this.config = fields.config;
    this.device = fields.device;
    this.threads = fields.threads;
    this.tokenizer = new LlamaTokenizer(fields.engine, fields.engine.llama.llama_model_get_vocab(fields.handle));
  }

  /**
   * Checks the file, then loads it off the event loop. Rejects with `FILE_NOT_FOUND`, `INVALID_MODEL` (with the engine's
   * reason), `UNSUPPORTED_MODEL`, `INVALID_OPTION` or `CANCELLED`.
   */
  static async load(options: LanguageModelOptions): Promise<LanguageModel> {
    const { modelPath: path, weightsPath = path, onProgress, signal, engine = loadEngine() } = options;
    throwIfAborted(signal);
    const gguf = readGguf(weightsPath);
    const config = readModelConfig(gguf);
    const device = chooseDevice(engine, options.device);
    const threads = resolveThreads(options.threads);
    const started = performance.now();
    onProgress?.({ kind: 'start', stage: 'load', message: `loading ${path}` });
    const handle = await loadWeights(engine, weightsPath, device, options);
    try {
      throwIfAborted(signal);
      const model = new LanguageModel({ path, byteLength: gguf.fileSize, engine, handle, config, device, threads });
      const seconds = (performance.now() - started) / 1000;
      onProgress?.({ kind: 'end', stage: 'load', message: `loaded ${path} on ${device.name}`, seconds });
      return model;
    } catch (error) {
      engine.llama.llama_model_free(handle);
      throw error;
    }
  }

  get shape(): CacheShape {
    return { layers: this.config.layers, rowValues: this.config.kvHeads * this.config.headDimension };
  }

  /** Tokens that the model was trained to read. */
  get contextLength(): number {
    return this.config.contextLength;
  }

  get usesGpu(): boolean {
    return this.device.kind === 'gpu';
  }

  /** An engine with a cache of its own. Rejects as {@link InferenceEngine.create} does, with `CANCELLED` once it is disposed. */
  async createContext(settings: EngineSettings = {}): Promise<InferenceEngine> {
    this.#checkNotDisposed();
    const creation: Promise<InferenceEngine> = InferenceEngine.create(this, settings, () => this.#contexts.delete(creation));
    this.#contexts.add(creation);
    creation.catch(() => this.#contexts.delete(creation));
    const context = await creation;
    this.#checkNotDisposed();
    return context;
  }

  /** Disposes the engines made from it, those that are being made included, then frees the weights: once, if called again. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#free();
    return this.#disposed;
  }

  async #free(): Promise<void> {
    await Promise.all([...this.#contexts].map(disposeMade));
    this.engine.llama.llama_model_free(this.handle);
  }

  #checkNotDisposed(): void {
    if (this.#disposed) throw new CartridgesError('CANCELLED', `the model ${this.path} was disposed`, { hint: 'load it anew' });
  }
}

/** Disposes of an engine once it is made. Why one could not be made, its caller hears. */
async function disposeMade(creation: Promise<InferenceEngine>): Promise<void> {
  const context = await creation.catch(() => undefined);
  await context?.dispose();
}

async function loadWeights(
  engine: Engine,
  path: string,
  device: Device,
  { gpuLayers = ALL_LAYERS, extraBuffers = true }: LanguageModelOptions,
): Promise<LlamaModel> {
  const { llama, log } = engine;
  const gpus = listDevices(engine).filter(({ kind }) => kind === 'gpu');
  log.take();
  const model = await callAsync(llama.llama_model_load_from_file, path, {
    ...llama.llama_model_default_params(),
    n_gpu_layers: device.kind === 'gpu' ? gpuLayers : 0,
    use_extra_bufts: extraBuffers,
    split_mode: SPLIT_NONE,
    main_gpu: Math.max(
      0,
      gpus.findIndex(({ name }) => name === device.name),
    ),
  });
  if (model) return model;
  throw new CartridgesError('INVALID_MODEL', `the engine cannot load ${path}: ${log.take()}`, {
    hint: 'the file is damaged or too large for the memory of this machine',
  });
}
