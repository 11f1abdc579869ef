import type { GgmlThreadpool, LlamaContext } from './handles.js';
import type { LlamaBatch, ThreadpoolParams } from './structs.js';

/** What the decode thread is started with: libraries that the main thread has loaded and checked. */
export interface DecodeStart {
  libraries: { base: string; ggml: string; llama: string };
}

/** What the decode thread is asked for, and what it answers. */
export interface DecodeRequests {
  /** Starts the threads of a pool; `create` is the address of the function that does it. No pool when that failed. */
  startThreadpool: {
    request: { create: bigint; params: ThreadpoolParams };
    answer: { threadpool: GgmlThreadpool | null };
  };
  /** Computes a batch, on a GPU to its end. The status is that of `llama_decode`. */
  decode: { request: { context: LlamaContext; batch: LlamaBatch }; answer: { status: number } };
}
