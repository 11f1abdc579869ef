import { parseStateBlob, type StateBlobSettings } from '../cartridge/state-blob.js';
import { CartridgesError } from '../core/errors.js';
import type { Engine } from '../native/engine.js';
import { GgmlType } from '../native/ggml.js';
import type { LlamaContext, LlamaMemory, LlamaModel } from '../native/handles.js';
import { callAsync, viewMemory } from '../native/koffi.js';
import { FlashAttention } from '../native/llama.js';
import { NativeBytes } from '../native/native-bytes.js';
import type { LlamaBatch } from '../native/structs.js';
import { isShared } from './decoding/choice-task.js';
import { provideChoiceHelpers } from './decoding/choice-threads.js';
import type { Decoded, DecodedContext, RowRule } from './decoding/decode-requests.js';
import { type DecodeThread, decodeThread } from './decoding/decode-thread.js';
import { LogitsViews } from './decoding/logits-views.js';
import { Threadpool } from './decoding/threadpool.js';
import type { DecodeOutcome, SequenceContext } from './sequence-context.js';

/** Types that hold rows as they are. A quantised cache holds rotated rows, so a cartridge's would be wrong in it, silently. */
const CACHE_TYPES = { f16: GgmlType.F16, bf16: GgmlType.BF16, f32: GgmlType.F32 } as const;
export type CacheType = keyof typeof CACHE_TYPES;

export interface LlamaContextSettings {
  /** Cells of the cache, for all sequences together; libllama rounds up. */
  cells: number;
  batchRows: number;
  logitsRows: number;
  threads: number;
  /** For a batch of one row. */
  decodeThreads: number;
  cacheType: CacheType;
  flashAttention: boolean;
  /** Keep the cache and large products on the model's GPU. */
  offload: boolean;
}

/** Layers of a model, and values of one token's keys in one of them. */
export interface CacheShape {
  layers: number;
  rowValues: number;
}

/** libllama takes it for the end of a sequence. */
const OPEN_END = -1;

/** A libllama context as the scheduler wants it. Arguments are checked here: libllama answers a wrong one with an abort. */
export class LlamaSequenceContext implements SequenceContext {
  readonly cells: number;
  readonly batchRows: number;
  readonly logitsRows: number;
  /** How the cache holds its rows: what a state blob for it must look like. */
  readonly layout: StateBlobSettings;

  readonly #engine: Engine;
  readonly #model: LlamaModel;
  readonly #settings: LlamaContextSettings;
  /** None between a failed {@link rebuild} and the next one. */
  #native: NativeContext | undefined;
  #rowCount = 0;

  private constructor(engine: Engine, model: LlamaModel, settings: LlamaContextSettings, made: MadeContext) {
    this.#engine = engine;
    this.#model = model;
    this.#settings = settings;
    this.#native = made.native;
    this.cells = engine.llama.llama_n_ctx(made.native.context);
    this.batchRows = settings.batchRows;
    this.logitsRows = settings.logitsRows;
    this.layout = made.layout;
  }

  /**
   * Makes a context and learns its cache layout by decoding one token; it is not guessed. Rejects with `OUT_OF_MEMORY` or `ENGINE_FAILURE` and the
   * engine's reason.
   */
  static async create(
    engine: Engine,
    model: LlamaModel,
    shape: CacheShape,
    settings: LlamaContextSettings,
  ): Promise<LlamaSequenceContext> {
    const native = await openContext(engine, model, settings);
    try {
      return new LlamaSequenceContext(engine, model, settings, {
        native,
        layout: await probeLayout(engine, native, shape),
      });
    } catch (error) {
      freeContext(engine, native);
      throw error;
    }
  }

  addRow(token: number, position: number, sequence: number, wantsLogits: boolean): void {
    const row = this.#rowCount++;
    const { rows } = this.#live;
    rows.tokens[row] = token;
    rows.positions[row] = position;
    (rows.sequences[row] as Int32Array)[0] = sequence;
    rows.wantsLogits[row] = wantsLogits ? 1 : 0;
  }

  async decode(rules: readonly RowRule[] = []): Promise<DecodeOutcome> {
    const native = this.#live;
    const count = this.#rowCount;
    this.#rowCount = 0;
    if (count < 1 || count > this.batchRows) {
      throw new CartridgesError('INTERNAL', `a batch of ${count} rows cannot be decoded, from 1 to ${this.batchRows} can`);
    }
    Atomics.store(native.withdrawal, 0, 0);
    return decodeBatch(this.#engine, native, { ...native.batch, n_tokens: count }, rules);
  }

  async decodeChosen(most: number): Promise<DecodeOutcome[]> {
    const { context } = this.#live;
    const { decoded } = await decodeThread(this.#engine).request('decodeChosen', { context, most });
    return decoded.map((each) => outcomeOf(this.#engine, each));
  }

  withdraw(): void {
    if (this.#native) Atomics.store(this.#native.withdrawal, 0, 1);
  }

  logits(row: number): Float32Array {
    return this.#live.logits.at(row);
  }

  share(from: number, to: number, end: number, start = 0): void {
    this.#engine.llama.llama_memory_seq_cp(this.#live.memory, from, to, start, end);
  }

  remove(sequence: number, start = 0, end = OPEN_END): void {
    if (this.#native) this.#engine.llama.llama_memory_seq_rm(this.#native.memory, sequence, start, end);
  }

  async load(sequence: number, blob: Uint8Array | NativeBytes): Promise<void> {
    const { llama, log } = this.#engine;
    const { context } = this.#live;
    log.take();
    const { byteLength } = blob;
    const bytes = blob instanceof NativeBytes ? blob.address : blob;
    const used = Number(await callAsync(llama.llama_state_seq_set_data, context, bytes, byteLength, sequence));
    if (used === byteLength) return;
    this.remove(sequence);
    throw new CartridgesError('ENGINE_FAILURE', `the engine took ${used} of ${byteLength} bytes of rows: ${log.take()}`);
  }

  async save(sequence: number): Promise<NativeBytes> {
    const { llama, log } = this.#engine;
    const { context } = this.#live;
    if (sequence >= llama.llama_n_seq_max(context)) {
      throw new CartridgesError('ENGINE_FAILURE', `the engine cannot save sequence ${sequence}: it labels fewer`);
    }
    log.take();
    const blob = new NativeBytes(Number(llama.llama_state_seq_get_size(context, sequence)));
    const { byteLength } = blob;
    try {
      const written = Number(await callAsync(llama.llama_state_seq_get_data, context, blob.address, byteLength, sequence));
      if (written === byteLength) return blob;
      throw new CartridgesError('ENGINE_FAILURE', `the engine gave ${written} of ${byteLength} bytes of rows: ${log.take()}`);
    } catch (error) {
      blob.dispose();
      throw error;
    }
  }

  clear(): void {
    if (this.#native) this.#engine.llama.llama_memory_clear(this.#native.memory, false);
  }

  async rebuild(): Promise<void> {
    // The memory of two contexts may not be there.
    this.dispose();
    this.#rowCount = 0;
    this.#native = await openContext(this.#engine, this.#model, this.#settings);
  }

  /** Frees the context; no decode may be running. */
  dispose(): void {
    if (this.#native) freeContext(this.#engine, this.#native);
    this.#native = undefined;
  }

  get #live(): NativeContext {
    if (this.#native) return this.#native;
    throw new CartridgesError('ENGINE_FAILURE', 'the engine has no context');
  }
}

interface MadeContext {
  native: NativeContext;
  layout: StateBlobSettings;
}

/** What libllama made: a context with its memory and threads, and a batch to fill. */
interface NativeContext extends DecodedContext {
  threads: number;
  threadpool: Threadpool;
  memory: LlamaMemory;
  batch: LlamaBatch;
  rows: BatchRows;
  logits: LogitsViews;
  /** That knows the context; none before its first decode. */
  thread: DecodeThread | undefined;
}

interface BatchRows {
  tokens: Int32Array;
  positions: Int32Array;
  /** One array of one id for each row, as libllama wants it. */
  sequences: Int32Array[];
  wantsLogits: Int8Array;
}

async function openContext(engine: Engine, model: LlamaModel, settings: LlamaContextSettings): Promise<NativeContext> {
  const { llama } = engine;
  const threadpool = await Threadpool.start(engine, Math.max(settings.threads, settings.decodeThreads));
  try {
    const context = await initialize(engine, model, settings);
    llama.llama_attach_threadpool(context, threadpool.handle, threadpool.handle);
    const vocabulary = llama.llama_model_get_vocab(model);
    const vocabularySize = llama.llama_vocab_n_tokens(vocabulary);
    const batch = llama.llama_batch_init(settings.batchRows, 0, 1);
    return {
      threads: settings.threads,
      threadpool,
      context,
      memory: llama.llama_get_memory(context),
      batch,
      rows: viewBatch(batch, settings.batchRows),
      logits: new LogitsViews(llama, context, vocabularySize),
      vocabulary,
      vocabularySize,
      withdrawal: new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)),
      thread: undefined,
    };
  } catch (error) {
    threadpool.free();
    throw error;
  }
}

function freeContext({ llama }: Engine, { batch, context, threadpool, thread }: NativeContext): void {
  // One that has ended knows nothing any more.
  thread?.request('closeContext', { context }).catch(() => undefined);
  llama.llama_batch_free(batch);
  llama.llama_free(context);
  threadpool.free();
}

function viewBatch(batch: LlamaBatch, rows: number): BatchRows {
  const addresses = new BigUint64Array(viewMemory(batch.seq_id, rows * BigUint64Array.BYTES_PER_ELEMENT));
  new Int32Array(viewMemory(batch.n_seq_id, rows * 4)).fill(1);
  return {
    tokens: new Int32Array(viewMemory(batch.token, rows * 4)),
    positions: new Int32Array(viewMemory(batch.pos, rows * 4)),
    sequences: Array.from({ length: rows }, (_, row) => new Int32Array(viewMemory(addresses[row] as bigint, 4))),
    wantsLogits: new Int8Array(viewMemory(batch.logits, rows)),
  };
}

async function initialize(engine: Engine, model: LlamaModel, settings: LlamaContextSettings): Promise<LlamaContext> {
  const { llama, log } = engine;
  log.take();
  const context = await callAsync(llama.llama_init_from_model, model, {
    ...llama.llama_context_default_params(),
    n_ctx: settings.cells,
    n_batch: settings.batchRows,
    n_ubatch: settings.batchRows,
    // With one cache for all, libllama takes sequence ids above this too; it only sizes the buffer for logits.
    n_seq_max: Math.min(settings.logitsRows, settings.batchRows),
    n_threads: settings.decodeThreads,
    n_threads_batch: settings.threads,
    type_k: CACHE_TYPES[settings.cacheType],
    type_v: CACHE_TYPES[settings.cacheType],
    flash_attn_type: settings.flashAttention ? FlashAttention.ON : FlashAttention.OFF,
    kv_unified: true,
    offload_kqv: settings.offload,
    op_offload: settings.offload,
  });
  if (context) return context;
  const reason = log.take();
  throw new CartridgesError(
    /alloc|memory/i.test(reason) ? 'OUT_OF_MEMORY' : 'ENGINE_FAILURE',
    `a context of ${settings.cells} tokens could not be made: ${reason}`,
    { hint: 'ask for a smaller context, or free some memory' },
  );
}

async function probeLayout(engine: Engine, native: NativeContext, shape: CacheShape): Promise<StateBlobSettings> {
  const { llama } = engine;
  const { context } = native;
  const batch = llama.llama_batch_init(1, 0, 1);
  try {
    const rows = viewBatch(batch, 1);
    rows.tokens[0] = 0;
    rows.positions[0] = 0;
    (rows.sequences[0] as Int32Array)[0] = 0;
    rows.wantsLogits[0] = 0;
    await decodeBatch(engine, native, { ...batch, n_tokens: 1 }, []);
  } finally {
    llama.llama_batch_free(batch);
  }
  const blob = new Uint8Array(Number(llama.llama_state_seq_get_size(context, 0)));
  llama.llama_state_seq_get_data(context, blob, blob.length, 0);
  llama.llama_memory_clear(llama.llama_get_memory(context), true);
  return parseStateBlob(blob, shape);
}

async function decodeBatch(
  engine: Engine,
  native: NativeContext,
  batch: LlamaBatch,
  rules: readonly RowRule[],
): Promise<DecodeOutcome> {
  const { context, vocabulary, vocabularySize, withdrawal, threads } = native;
  const thread = decodeThread(engine);
  if (thread !== native.thread) {
    // The thread's first decode of the context. Nothing waits for the answer: what is asked for ahead must come behind the decode.
    thread.request('openContext', { context, vocabulary, vocabularySize, withdrawal }).catch(() => undefined);
    native.thread = thread;
  }
  if (isShared(rules.length, vocabularySize)) provideChoiceHelpers(thread, threads);
  return outcomeOf(engine, await thread.request('decode', { context, batch, rules }));
}

function outcomeOf(engine: Engine, { status, milliseconds, choices }: Decoded): DecodeOutcome {
  if (status === 0) return { milliseconds, choices };
  const reason = status === 1 ? 'no free cells in the cache' : engine.log.take();
  throw new CartridgesError('ENGINE_FAILURE', `decoding a batch failed with status ${status}: ${reason}`);
}
