import { join } from 'node:path';
import type { ModelFingerprint } from '../cartridge/cartridge.js';
import { fingerprintOf } from '../cartridge/fingerprint.js';
import { hashWeights } from '../cartridge/weights-hash.js';
import { cacheFolder } from '../core/environment.js';
import { CartridgesError } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import type { EngineSettings, InferenceEngine } from '../inference/inference-engine.js';
import { LanguageModel } from '../inference/language-model.js';
import { ChatFraming } from '../models/chat-framing.js';
import { FrozenModel, type WeightTypes } from '../models/frozen-model.js';
import { type GgufFile, readGguf } from '../models/gguf.js';
import { resolveModel } from '../models/hub/resolve-model.js';
import { type ModelConfig, readModelConfig } from '../models/model-config.js';
import { type ModelRecommendations, readModelRecommendations } from '../models/model-folder.js';
import type { LlamaTokenizer } from '../models/tokenizer.js';
import { chooseDevice } from '../native/devices.js';
import { loadEngine } from '../native/engine.js';
import { loadPromptSet, type PromptSet } from '../self-study/seed-prompts.js';
import { Backend } from '../tensor/backend.js';
import {
  bufferTypeNamed,
  type DeviceProfile,
  PRODUCT_TYPES,
  type ProductTypeName,
  profileDevice,
} from '../tensor/device-profile.js';
import { type EngineTuning, readTuning, standardThreads } from './engine-tuning.js';
import { weightsPath } from './weights-copy.js';

export interface ModelSessionOptions {
  /** A GGUF, `org/name[:file]` in the Hugging Face cache, or `pocket`. */
  model: string;
  device?: string;
  threads?: number;
}

interface Parts {
  path: string;
  gguf: GgufFile;
  config: ModelConfig;
  fingerprint: ModelFingerprint;
  languageModel: LanguageModel;
  framing: ChatFraming;
  prompts: PromptSet;
  recommendations: ModelRecommendations;
  tuning?: EngineTuning;
}

/**
 * A model with everything that the stages of a job share: what its file says, its tokenizer and framing, libllama's copy of
 * the weights for inference, and the student's for training, which is loaded when it is first asked for.
 */
export class ModelSession {
  readonly path: string;
  readonly gguf: GgufFile;
  readonly config: ModelConfig;
  readonly fingerprint: ModelFingerprint;
  readonly languageModel: LanguageModel;
  readonly framing: ChatFraming;
  readonly prompts: PromptSet;
  readonly recommendations: ModelRecommendations;
  /** What `cartridges tune` measured to be fastest here, if it was run for this model. */
  readonly tuning: EngineTuning | undefined;
  readonly #options: ModelSessionOptions;
  #backend: Backend | undefined;
  #student: FrozenModel | undefined;
  #profile: DeviceProfile | undefined;
  /** Resolves when the student that was asked for last is there, or could not be loaded. */
  #studentSettled: Promise<unknown> = Promise.resolve();
  #disposed: Promise<void> | undefined;

  private constructor(options: ModelSessionOptions, parts: Parts) {
    this.#options = options;
    this.path = parts.path;
    this.gguf = parts.gguf;
    this.config = parts.config;
    this.fingerprint = parts.fingerprint;
    this.languageModel = parts.languageModel;
    this.framing = parts.framing;
    this.prompts = parts.prompts;
    this.recommendations = parts.recommendations;
    this.tuning = parts.tuning;
  }

  /** Opens a model. Throws `FILE_NOT_FOUND`, `INVALID_MODEL`, `UNSUPPORTED_MODEL` or `CANCELLED`. */
  static async open(options: ModelSessionOptions, run: RunOptions = {}): Promise<ModelSession> {
    const path = await resolveModel(options.model);
    const gguf = readGguf(path);
    const config = readModelConfig(gguf);
    const template = readChatTemplate(gguf);
    const fingerprint = fingerprintOf(gguf, await hashWeights(gguf, cacheFolder(), run));
    const prompts = await loadPromptSet(path);
    const recommendations = await readModelRecommendations(path);
    // What was measured on the processor says nothing about a GPU.
    const isOnCpu = chooseDevice(loadEngine(), options.device).kind === 'cpu';
    const tuning = isOnCpu ? await readTuning(fingerprint.weightsHash) : undefined;
    const { extraBuffers = true, weights = 'stored' } = tuning ?? {};
    const copy = await weightsPath(gguf, fingerprint.weightsHash, weights, run);
    const languageModel = await LanguageModel.load({ ...options, modelPath: path, weightsPath: copy, extraBuffers, ...run });
    try {
      const framing = createFraming(template, languageModel.tokenizer);
      const parts = { path, gguf, config, fingerprint, languageModel, framing, prompts, recommendations };
      return new ModelSession(options, { ...parts, ...(tuning && { tuning }) });
    } catch (error) {
      await languageModel.dispose();
      throw error;
    }
  }

  get tokenizer(): LlamaTokenizer {
    return this.languageModel.tokenizer;
  }

  /** What was measured to choose the student's weight type; undefined before {@link student}. */
  get profile(): DeviceProfile | undefined {
    return this.#profile;
  }

  /** What could make answers faster; undefined where it was done, and on a GPU. */
  get tuningAdvice(): string | undefined {
    if (this.tuning || this.languageModel.usesGpu) return undefined;
    const command = `cartridges tune --model ${this.#options.model}`;
    return `not tuned for this processor; what can make answers faster is measured in some minutes by: ${command}`;
  }

  /** An engine with the given settings, then the tuned ones, then defaults. A number of threads that the user named stays. */
  createEngine(settings: EngineSettings): Promise<InferenceEngine> {
    const { extraBuffers: _, weights: __, threads, decodeThreads, batchTokens = 0, ...tuned } = this.tuning ?? {};
    const usual = threads === undefined ? { threads: standardThreads(this.languageModel) } : { threads, decodeThreads };
    return this.languageModel.createContext({
      ...tuned,
      ...(batchTokens > 0 && { batchTokens: Math.max(batchTokens, settings.maxRequests ?? 0) }),
      ...((this.#options.threads ?? 0) === 0 && usual),
      ...settings,
    });
  }

  /** Where the student computes. */
  get backend(): Backend {
    this.#backend ??= new Backend(this.#options);
    return this.#backend;
  }

  /**
   * The frozen model that a cartridge is trained in front of: in the given types, or by default in the one that the device multiplies
   * fastest. It is kept for the next call. A call that asks for other types frees it and loads another: nobody may be using it then.
   * Rejects with `CANCELLED` once the session is disposed.
   */
  async student(weights: 'auto' | ProductTypeName | WeightTypes = 'auto', run: RunOptions = {}): Promise<FrozenModel> {
    const switching = this.#studentSettled.then(() => this.#switchStudent(weights, run));
    this.#studentSettled = switching.catch(() => {});
    const student = await switching;
    this.#checkNotDisposed();
    return student;
  }

  /** Bytes of the student that is loaded, on its device. */
  get studentBytes(): number {
    return this.#student?.byteLength ?? 0;
  }

  /** Frees all that it holds, once, however often it is called; a student that is being loaded is waited for. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#free();
    return this.#disposed;
  }

  async #free(): Promise<void> {
    await this.#studentSettled;
    await this.#student?.dispose();
    this.#backend?.dispose();
    await this.languageModel.dispose();
  }

  async #switchStudent(weights: 'auto' | ProductTypeName | WeightTypes, run: RunOptions): Promise<FrozenModel> {
    this.#checkNotDisposed();
    const types = typeof weights === 'string' ? await this.#weightTypes(this.backend, weights) : weights;
    if (this.#student && isSame(this.#student.types, types)) return this.#student;
    const before = this.#student;
    this.#student = undefined;
    await before?.dispose();
    this.#student = await FrozenModel.load(this.backend, this.gguf, types, run);
    return this.#student;
  }

  #checkNotDisposed(): void {
    if (!this.#disposed) return;
    throw new CartridgesError('CANCELLED', `the session of ${this.path} was disposed`, { hint: 'open it anew' });
  }

  async #weightTypes(backend: Backend, weightType: 'auto' | ProductTypeName): Promise<WeightTypes> {
    if (weightType !== 'auto') return { forward: PRODUCT_TYPES[weightType], transposed: PRODUCT_TYPES[weightType] };
    const { embedding: inputs, feedForward: outputs } = this.config;
    const cachePath = join(cacheFolder(), 'device-profiles.json');
    this.#profile ??= await profileDevice(backend, { inputs, outputs, fileType: fileTypeOf(this.gguf), cachePath });
    const { type, bufferType } = this.#profile.chosen;
    const handle = bufferTypeNamed(backend, bufferType);
    return { forward: type, transposed: type, ...(handle && { bufferType: handle }) };
  }
}

/** A buffer type's handle is another object each time it is asked for; beside the device's default one there is one for a device. */
function isSame(some: WeightTypes, others: WeightTypes): boolean {
  const isDefault = ({ bufferType }: WeightTypes) => bufferType === undefined;
  const isSpaced = ({ spacesRows = false }: WeightTypes) => spacesRows;
  return (
    some.forward === others.forward &&
    some.transposed === others.transposed &&
    isSpaced(some) === isSpaced(others) &&
    isDefault(some) === isDefault(others)
  );
}

/** Of the matrix that most of the work is done with. */
function fileTypeOf(gguf: GgufFile) {
  const { typeName, type } = gguf.tensors.get('blk.0.ffn_up.weight')!;
  return { name: typeName.toLowerCase(), type };
}

function readChatTemplate(gguf: GgufFile): string {
  if (gguf.metadata.has('tokenizer.chat_template')) return gguf.string('tokenizer.chat_template');
  throw new CartridgesError('UNSUPPORTED_MODEL', `${gguf.path} has no chat template`, {
    hint: 'use an instruction-tuned model; a base model cannot hold the conversations that a cartridge is made from',
  });
}

function createFraming(template: string, tokenizer: LlamaTokenizer): ChatFraming {
  return new ChatFraming({ template, bosToken: tokenizer.bosText, eosToken: tokenizer.eosText, tokenizer });
}
