import type { Cartridge } from '../cartridge/cartridge.js';
import { CartridgesError, throwIfAborted } from '../core/errors.js';
import type { LlamaTokenizer } from '../models/tokenizer.js';
import type { Engine } from '../native/engine.js';
import type { LlamaModel } from '../native/handles.js';
import { MAX_SEQUENCES } from '../native/llama.js';
import { CartridgeHandle, checkRowSize } from './cartridge-handle.js';
import { Generation, type GenerationListener } from './generation.js';
import { type CacheShape, type CacheType, LlamaSequenceContext } from './llama-sequence-context.js';
import { Reading } from './reading.js';
import {
  type Completion,
  checkCount,
  checkGeneration,
  checkTokens,
  type GeneratedToken,
  type GenerationRequest,
  type ReadRequest,
  type RequestContext,
} from './requests.js';
import { type EngineStatistics, Scheduler } from './scheduler.js';
import { TokenQueue } from './token-queue.js';
import { TopCandidates } from './top-logprobs.js';

export interface EngineSettings {
  /** Tokens in the cache, of all requests and cartridges together; rounded up to 256. By default the model's own length, at most 8192. */
  contextTokens?: number;
  /** Requests that run at the same time, at most 256; more of them wait in order. By default 32. */
  maxRequests?: number;
  /** Rows of one decode: how much of a prompt is read between two new tokens of the others. By default 512. */
  batchTokens?: number;
  /** By default the model's. */
  threads?: number;
  /** Type of keys and values in the cache; by default `f16`. */
  cacheType?: CacheType;
  /** On by default: then a request's numbers do not depend on where its rows lie in the cache. */
  flashAttention?: boolean;
}

/** What an engine needs of a loaded model. */
export interface EngineModel {
  readonly engine: Engine;
  readonly handle: LlamaModel;
  readonly tokenizer: LlamaTokenizer;
  readonly shape: CacheShape;
  readonly contextLength: number;
  readonly threads: number;
  readonly usesGpu: boolean;
}

const DEFAULT_CONTEXT_TOKENS = 8192;
/** No model is longer, and it keeps a wrong number from asking for all memory. */
const MAX_CONTEXT_TOKENS = 1 << 24;
const MAX_BATCH_TOKENS = 1 << 13;
/** Fewest rows with logits in one decode, so that reading for logits is not slow where few requests may run. */
const MIN_LOGITS_ROWS = 32;
const CACHE_BYTES: Readonly<Record<CacheType, number>> = { f32: 4, f16: 2, bf16: 2 };

/**
 * Generates for many requests at once in one cache. Requests of one tick start together, in order; what they share (cartridges,
 * first tokens) is computed or loaded once. Equal requests in equal order give equal tokens and log-probs.
 *
 * @example
 * const model = await LanguageModel.load({ modelPath: 'model.gguf' });
 * const engine = await model.createContext();
 * const prompt = model.tokenizer.encode('Once');
 * console.log((await engine.complete({ prompt, maxTokens: 20, sampling: { temperature: 0 } })).text);
 */
export class InferenceEngine {
  readonly tokenizer: LlamaTokenizer;
  /** Tokens in the cache, of all sequences together. */
  readonly contextTokens: number;
  /** Tokens of one sequence, with its cartridges. */
  readonly maxSequenceTokens: number;
  readonly maxRequests: number;
  readonly cacheType: CacheType;
  /** Bytes of keys and values of one token. */
  readonly kvBytesPerToken: number;

  readonly #context: LlamaSequenceContext;
  readonly #scheduler: Scheduler;
  readonly #shape: CacheShape;
  readonly #candidates = new TopCandidates();
  readonly #loaded = new Set<CartridgeHandle>();
  #cartridges = 0;
  #disposed: Promise<void> | undefined;

  private constructor(model: EngineModel, context: LlamaSequenceContext, settings: Required<EngineSettings>) {
    this.tokenizer = model.tokenizer;
    this.contextTokens = context.cells;
    this.maxSequenceTokens = Math.min(context.cells, model.contextLength);
    this.maxRequests = settings.maxRequests;
    this.cacheType = settings.cacheType;
    this.kvBytesPerToken = model.shape.layers * model.shape.rowValues * 2 * CACHE_BYTES[settings.cacheType];
    this.#shape = model.shape;
    this.#context = context;
    this.#scheduler = new Scheduler(context, {
      sequences: MAX_SEQUENCES,
      runs: settings.maxRequests,
      sequenceTokens: this.maxSequenceTokens,
    });
  }

  /** Makes a context for a loaded model. Rejects with `INVALID_OPTION`, or `OUT_OF_MEMORY` when the cache does not fit. */
  static async create(model: EngineModel, settings: EngineSettings = {}): Promise<InferenceEngine> {
    const full = completeSettings(model, settings);
    const context = await LlamaSequenceContext.create(model.engine, model.handle, model.shape, {
      cells: full.contextTokens,
      batchRows: full.batchTokens,
      logitsRows: Math.min(full.batchTokens, Math.max(full.maxRequests, MIN_LOGITS_ROWS)),
      threads: full.threads,
      cacheType: full.cacheType,
      flashAttention: full.flashAttention,
      offload: model.usesGpu,
    });
    return new InferenceEngine(model, context, full);
  }

  /** Counts since the engine was made. */
  get statistics(): EngineStatistics {
    return this.#scheduler.statistics;
  }

  /** Cells that neither a request nor shared rows hold; all of them when the engine is idle and has no cartridge. */
  get freeCells(): number {
    return this.#scheduler.freeCells;
  }

  /**
   * New tokens as they come. The request is queued by this call, not by the first iteration; leaving the loop cancels it.
   * Throws `CONTEXT_OVERFLOW` when it can never fit, `INVALID_OPTION` and `INVALID_INPUT` for wrong values.
   */
  generate(request: GenerationRequest): AsyncIterable<GeneratedToken> {
    const queue = new TokenQueue<GeneratedToken>();
    const generation = this.#submit(request, {
      token: (generated) => queue.push(generated),
      end: () => queue.end(),
      fail: (error) => queue.end(error),
    });
    return (async function* () {
      try {
        yield* queue.values();
      } finally {
        generation.abandon();
      }
    })();
  }

  /** The whole answer. Rejects as {@link generate} throws, and with `CANCELLED` or `ENGINE_FAILURE`. */
  complete(request: GenerationRequest): Promise<Completion> {
    return new Promise((resolve, reject) => {
      this.#submit(request, { end: resolve, fail: reject });
    });
  }

  /** Reads tokens and hands out their logits. Rejects as {@link complete} does, and with what `onLogits` throws. */
  read(request: ReadRequest): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#checkContext(request, request.tokens);
      checkCount('the first row with logits', request.firstLogitsRow, 0, request.tokens.length - 1);
      throwIfAborted(request.signal);
      this.#scheduler.submit(new Reading(request, { resolve, reject }));
    });
  }

  /**
   * Puts a cartridge into the cache, once for all requests that will name it. Rejects with `CARTRIDGE_MISMATCH`,
   * `INVALID_CARTRIDGE`, or `CONTEXT_OVERFLOW` when there is no room. Whether it belongs to the model is for the caller to check.
   */
  async loadCartridge(cartridge: Cartridge): Promise<CartridgeHandle> {
    checkRowSize(cartridge, this.#shape);
    const handle = new CartridgeHandle(`cartridge-${this.#cartridges++}`, cartridge, this.#context.layout);
    await this.#scheduler.loadCartridge(handle);
    this.#loaded.add(handle);
    return handle;
  }

  /** Takes a cartridge out when the requests that are submitted are done with it. */
  async unloadCartridge(handle: CartridgeHandle): Promise<void> {
    if (this.#loaded.delete(handle)) await this.#scheduler.unloadCartridge(handle);
  }

  /** Resolves when no request runs or waits. */
  whenIdle(): Promise<void> {
    return this.#scheduler.whenIdle();
  }

  /** Cancels what runs, waits for the running decode and frees the context. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#scheduler.close().then(() => this.#context.dispose());
    return this.#disposed;
  }

  #submit(request: GenerationRequest, listener: GenerationListener): Generation {
    this.#checkContext(request, request.prompt);
    checkGeneration(request, this.tokenizer.vocabularySize);
    const generation = new Generation(request, this.tokenizer, this.#candidates, listener);
    throwIfAborted(request.signal);
    this.#scheduler.submit(generation);
    return generation;
  }

  #checkContext({ cartridges = [], sharedPrefixTokens = 0 }: RequestContext, tokens: Int32Array): void {
    checkTokens(tokens, this.tokenizer.vocabularySize);
    checkCount('the number of shared tokens', sharedPrefixTokens, 0, tokens.length);
    if (cartridges.every((handle) => this.#loaded.has(handle))) return;
    throw new CartridgesError('INVALID_OPTION', 'a request names a cartridge that is not loaded in this engine');
  }
}

function completeSettings(model: EngineModel, settings: EngineSettings): Required<EngineSettings> {
  const full = {
    contextTokens: Math.min(model.contextLength, DEFAULT_CONTEXT_TOKENS),
    maxRequests: 32,
    batchTokens: 512,
    threads: model.threads,
    cacheType: 'f16' as const,
    flashAttention: true,
    ...settings,
  };
  checkCount('the context', full.contextTokens, 1, MAX_CONTEXT_TOKENS);
  checkCount('the number of requests at a time', full.maxRequests, 1, MAX_SEQUENCES);
  checkCount('the number of threads', full.threads, 1, 1024);
  checkCount('the batch', full.batchTokens, full.maxRequests, MAX_BATCH_TOKENS);
  if (full.cacheType in CACHE_BYTES) return full;
  throw new CartridgesError('INVALID_OPTION', `a cache of type ${full.cacheType} cannot hold cartridges`, {
    hint: `use one of: ${Object.keys(CACHE_BYTES).join(', ')}`,
  });
}
