import type { Cartridge } from '../cartridge/cartridge.js';
import { CartridgesError, throwIfAborted } from '../core/errors.js';
import type { LlamaTokenizer } from '../models/tokenizer.js';
import type { Engine } from '../native/engine.js';
import type { LlamaModel } from '../native/handles.js';
import { MAX_SEQUENCES } from '../native/llama.js';
import { AbortWatch } from './abort-watch.js';
import { CartridgeHandle, type CartridgeSource, checkRowSize } from './cartridge-handle.js';
import { Generation, type GenerationListener, type GenerationTools } from './generation.js';
import { GrammarFactory } from './grammar/grammar-constraint.js';
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
import { type EngineStatistics, Scheduler, type SchedulerUsage } from './scheduler.js';
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
  /** For a batch of one row: one request alone that generates. By default `threads`. */
  decodeThreads?: number;
  /** Type of keys and values in the cache; by default `f16`. */
  cacheType?: CacheType;
  /** On by default: then a request's numbers do not depend on where its rows lie in the cache. */
  flashAttention?: boolean;
  /**
   * For a server: keep the rows of finished requests for others of their scope that begin alike, until their room is needed, and
   * read prompts side by side, so that a short one does not wait for a long one. `sharedPrefixTokens` are not needed then. Off by
   * default: a dataset must not depend on what ran before.
   */
  retainTurns?: boolean;
  /** Cells that finished requests may keep for others while nobody uses them; by default all. Each of them slows every decode a little. */
  keptTurnCells?: number;
  /** Memory outside of the cache for rows of finished requests that have left it, from where they come back. By default 0. */
  storedTurnBytes?: number;
}

/** What the cells of the cache are used for now, and how many requests there are. */
export interface EngineUsage extends SchedulerUsage {
  cells: number;
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
const DEFAULT_CACHE_TYPE: CacheType = 'f16';

/** Bytes of the keys and values of one token in a cache, to plan its memory before it is made. */
export function kvBytesPerToken({ layers, rowValues }: CacheShape, cacheType: CacheType = DEFAULT_CACHE_TYPE): number {
  return layers * rowValues * 2 * CACHE_BYTES[cacheType];
}

/**
 * Generates for many requests at once in one cache. Requests of one tick start together, in order; what they share (cartridges,
 * first tokens) is computed or loaded once. Equal requests in equal order give equal tokens and log-probs; with `retainTurns` they
 * may differ by what rounding makes of other batches.
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
  /** That compute batches. */
  readonly threads: number;
  readonly cacheType: CacheType;
  readonly flashAttention: boolean;
  /** Bytes of keys and values of one token. */
  readonly kvBytesPerToken: number;

  readonly #context: LlamaSequenceContext;
  readonly #scheduler: Scheduler;
  readonly #shape: CacheShape;
  readonly #tools: GenerationTools;
  readonly #known = new Set<CartridgeHandle>();
  /** Lets the scheduler see at once that a request is cancelled. */
  readonly #aborts = new AbortWatch(() => this.#scheduler.wake());
  readonly #onDisposed: () => void;
  #cartridges = 0;
  #disposed: Promise<void> | undefined;

  private constructor(
    model: EngineModel,
    context: LlamaSequenceContext,
    settings: Required<EngineSettings>,
    onDisposed: () => void,
  ) {
    this.#onDisposed = onDisposed;
    this.tokenizer = model.tokenizer;
    this.contextTokens = context.cells;
    this.maxSequenceTokens = Math.min(context.cells, model.contextLength);
    this.maxRequests = settings.maxRequests;
    this.threads = settings.threads;
    this.cacheType = settings.cacheType;
    this.flashAttention = settings.flashAttention;
    this.kvBytesPerToken = kvBytesPerToken(model.shape, settings.cacheType);
    this.#shape = model.shape;
    this.#context = context;
    this.#tools = { tokenizer: model.tokenizer, candidates: new TopCandidates(), grammars: new GrammarFactory(model) };
    this.#scheduler = new Scheduler(context, {
      sequences: MAX_SEQUENCES,
      runs: settings.maxRequests,
      sequenceTokens: this.maxSequenceTokens,
      retainTurns: settings.retainTurns,
      keptTurnCells: settings.keptTurnCells,
      storedTurnBytes: settings.storedTurnBytes,
    });
  }

  /** Makes a context for a loaded model. Rejects with `INVALID_OPTION`, or `OUT_OF_MEMORY` when the cache does not fit. */
  static async create(model: EngineModel, settings: EngineSettings = {}, onDisposed = () => {}): Promise<InferenceEngine> {
    const full = completeSettings(model, settings);
    const context = await LlamaSequenceContext.create(model.engine, model.handle, model.shape, {
      cells: full.contextTokens,
      batchRows: full.batchTokens,
      logitsRows: Math.min(full.batchTokens, Math.max(full.maxRequests, MIN_LOGITS_ROWS)),
      threads: full.threads,
      decodeThreads: full.decodeThreads,
      cacheType: full.cacheType,
      flashAttention: full.flashAttention,
      offload: model.usesGpu,
    });
    return new InferenceEngine(model, context, full, onDisposed);
  }

  /** Counts since the engine was made. */
  get statistics(): EngineStatistics {
    return this.#scheduler.statistics;
  }

  /** Cells that neither a request nor shared rows hold; all of them when the engine is idle and has no cartridge. */
  get freeCells(): number {
    return this.#scheduler.freeCells;
  }

  /** What the cells are used for now. */
  get usage(): EngineUsage {
    return { cells: this.contextTokens, ...this.#scheduler.usage };
  }

  /** Requests of a scope that wait for their turn. */
  waitingOf(scope: string): number {
    return this.#scheduler.waitingOf(scope);
  }

  /** Why the engine could not be started anew after a failure; requests fail with this `ENGINE_DOWN` until it can. */
  get failure(): CartridgesError | undefined {
    return this.#scheduler.failure;
  }

  /** Tries again to start the engine anew where that has failed; every request tries it too. */
  revive(): void {
    this.#scheduler.revive();
  }

  /**
   * New tokens as they come. The request is queued by this call, not by the first iteration; leaving the loop cancels it, also
   * before its first token. Throws `CONTEXT_OVERFLOW` when it can never fit, `INVALID_OPTION` and `INVALID_INPUT` for wrong
   * values.
   */
  generate(request: GenerationRequest): AsyncIterable<GeneratedToken> {
    const queue = new TokenQueue<GeneratedToken>(() => {
      generation.abandon();
      this.#scheduler.wake();
    });
    const generation = this.#queue(request, {
      token: (generated) => queue.push(generated),
      end: () => queue.end(),
      fail: (error) => queue.end(error),
    });
    return queue;
  }

  /** Queues a request and tells the listener its tokens as they come. Throws as {@link generate} does. */
  submit(request: GenerationRequest, listener: GenerationListener): void {
    this.#queue(request, listener);
  }

  /** The whole answer. Rejects as {@link generate} throws, and with `CANCELLED`, `ENGINE_FAILURE` or `ENGINE_DOWN`. */
  complete(request: GenerationRequest): Promise<Completion> {
    return new Promise((resolve, reject) => {
      this.submit(request, { end: resolve, fail: reject });
    });
  }

  /** Runs requests of several ticks whose shared first tokens stay computed from one to the next, until `run` is over. */
  async together<T>(run: () => Promise<T>): Promise<T> {
    const release = this.#scheduler.keepSharedRows();
    return run().finally(release);
  }

  /** Reads tokens and hands out their logits. Rejects as {@link complete} does, and with what `onLogits` throws. */
  async read(request: ReadRequest): Promise<void> {
    this.#checkContext(request, request.tokens);
    checkCount('the first row with logits', request.firstLogitsRow, 0, request.tokens.length - 1);
    throwIfAborted(request.signal);
    const unwatch = this.#aborts.watch(request.signal);
    await new Promise<void>((resolve, reject) => {
      this.#scheduler.submit(new Reading(request, { resolve, reject }));
    }).finally(unwatch);
  }

  /**
   * Puts a cartridge into the cache, once for all requests that will name it. Rejects with `CARTRIDGE_MISMATCH`,
   * `INVALID_CARTRIDGE`, or `CONTEXT_OVERFLOW` when there is no room. Whether it belongs to the model is for the caller to check.
   */
  async loadCartridge(cartridge: Cartridge): Promise<CartridgeHandle> {
    checkRowSize(cartridge, this.#shape);
    const handle = CartridgeHandle.ofCartridge(`cartridge-${this.#cartridges++}`, cartridge, this.#context.layout);
    await this.#scheduler.loadCartridge(handle);
    this.#known.add(handle);
    return handle;
  }

  /** Takes a cartridge of {@link loadCartridge} out when the requests that are submitted are done with it. */
  async unloadCartridge(handle: CartridgeHandle): Promise<void> {
    if (this.#known.delete(handle)) await this.#scheduler.unloadCartridge(handle);
  }

  /**
   * Makes a cartridge known. Its rows are read when a request first needs them, dropped when they are idle and room is needed,
   * and read again by themselves. Throws `CARTRIDGE_MISMATCH`. Whether it belongs to the model is for the caller to check.
   */
  addCartridge(source: CartridgeSource): CartridgeHandle {
    checkRowSize(source, this.#shape);
    const handle = CartridgeHandle.ofSource(source, this.#shape, this.#context.layout);
    this.#known.add(handle);
    return handle;
  }

  /** Forgets a cartridge of {@link addCartridge}; resolves when the requests that are submitted are done with it. */
  async removeCartridge(handle: CartridgeHandle): Promise<void> {
    if (!this.#known.delete(handle)) return;
    await this.#scheduler.whenReleased(handle);
    const isKnown = [...this.#known].some(({ key }) => key === handle.key);
    if (!isKnown) await this.#scheduler.evictCartridge(handle);
  }

  /**
   * Reads the rows of a cartridge before a request needs them. Rejects with `CONTEXT_OVERFLOW`, `CANCELLED`, and as its source
   * does.
   */
  async preload(handle: CartridgeHandle, signal?: AbortSignal): Promise<void> {
    this.#checkKnown([handle]);
    throwIfAborted(signal);
    const unwatch = this.#aborts.watch(signal);
    await this.#scheduler.preloadCartridge(handle, signal).finally(unwatch);
  }

  /** Drops the rows of a cartridge and the turns behind them; false when requests use it or it is to stay. */
  evict(handle: CartridgeHandle): Promise<boolean> {
    return this.#scheduler.evictCartridge(handle);
  }

  /** Whether the rows of a cartridge are in the cache. */
  isResident(handle: CartridgeHandle): boolean {
    return this.#scheduler.isResident(handle);
  }

  /** Resolves when no request runs or waits. */
  whenIdle(): Promise<void> {
    return this.#scheduler.whenIdle();
  }

  /** Cancels what runs, waits for the running decode and frees the context. */
  dispose(): Promise<void> {
    this.#disposed ??= this.#free();
    return this.#disposed;
  }

  async #free(): Promise<void> {
    await this.#scheduler.close();
    await this.#context.dispose();
    this.#onDisposed();
  }

  #queue(request: GenerationRequest, listener: GenerationListener): Generation {
    this.#checkContext(request, request.prompt);
    checkGeneration(request, this.tokenizer.vocabularySize);
    throwIfAborted(request.signal);
    const generation = new Generation(request, this.#tools, listener);
    try {
      this.#scheduler.submit(generation);
    } catch (error) {
      generation.release();
      throw error;
    }
    generation.onRelease = this.#aborts.watch(request.signal);
    return generation;
  }

  #checkContext({ cartridges = [], sharedPrefixTokens = 0 }: RequestContext, tokens: Int32Array): void {
    checkTokens(tokens, this.tokenizer.vocabularySize);
    checkCount('the number of shared tokens', sharedPrefixTokens, 0, tokens.length);
    this.#checkKnown(cartridges);
  }

  #checkKnown(cartridges: readonly CartridgeHandle[]): void {
    if (cartridges.every((handle) => this.#known.has(handle))) return;
    throw new CartridgesError('INVALID_OPTION', 'a request names a cartridge that is not loaded in this engine');
  }
}

function completeSettings(model: EngineModel, settings: EngineSettings): Required<EngineSettings> {
  const full = {
    contextTokens: Math.min(model.contextLength, DEFAULT_CONTEXT_TOKENS),
    maxRequests: 32,
    batchTokens: 512,
    threads: model.threads,
    cacheType: DEFAULT_CACHE_TYPE,
    flashAttention: true,
    retainTurns: false,
    keptTurnCells: MAX_CONTEXT_TOKENS,
    storedTurnBytes: 0,
    ...settings,
    decodeThreads: settings.decodeThreads ?? settings.threads ?? model.threads,
  };
  checkCount('the context', full.contextTokens, 1, MAX_CONTEXT_TOKENS);
  checkCount('the number of requests at a time', full.maxRequests, 1, MAX_SEQUENCES);
  checkCount('the number of threads', full.threads, 1, 1024);
  checkCount('the number of threads for one request alone', full.decodeThreads, 1, 1024);
  checkCount('the cells that finished turns keep', full.keptTurnCells, 0, MAX_CONTEXT_TOKENS);
  checkCount('the memory for finished turns', full.storedTurnBytes, 0, Number.MAX_SAFE_INTEGER);
  checkCount('the batch', full.batchTokens, full.maxRequests, MAX_BATCH_TOKENS);
  if (full.cacheType in CACHE_BYTES) return full;
  throw new CartridgesError('INVALID_OPTION', `a cache of type ${full.cacheType} cannot hold cartridges`, {
    hint: `use one of: ${Object.keys(CACHE_BYTES).join(', ')}`,
  });
}
