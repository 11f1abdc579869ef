/**
 * Addresses of native objects. koffi hands pointers over as BigInt; a brand for each C type keeps them apart in TypeScript,
 * because a wrong handle would not throw but corrupt memory.
 */
declare const brand: unique symbol;
export type GgmlContext = bigint & { readonly [brand]: 'ggml_context' };
export type GgmlTensor = bigint & { readonly [brand]: 'ggml_tensor' };
export type GgmlGraph = bigint & { readonly [brand]: 'ggml_cgraph' };
export type GgmlBackend = bigint & { readonly [brand]: 'ggml_backend' };
export type GgmlDevice = bigint & { readonly [brand]: 'ggml_backend_dev' };
export type GgmlBufferType = bigint & { readonly [brand]: 'ggml_backend_buffer_type' };
export type GgmlBuffer = bigint & { readonly [brand]: 'ggml_backend_buffer' };
export type GgmlAllocator = bigint & { readonly [brand]: 'ggml_gallocr' };
export type GgmlScheduler = bigint & { readonly [brand]: 'ggml_backend_sched' };
export type GgmlRegistry = bigint & { readonly [brand]: 'ggml_backend_reg' };
export type GgmlThreadpool = bigint & { readonly [brand]: 'ggml_threadpool' };
export type LlamaModel = bigint & { readonly [brand]: 'llama_model' };
export type LlamaContext = bigint & { readonly [brand]: 'llama_context' };
export type LlamaVocabulary = bigint & { readonly [brand]: 'llama_vocab' };
export type LlamaMemory = bigint & { readonly [brand]: 'llama_memory' };
export type LlamaSampler = bigint & { readonly [brand]: 'llama_sampler' };
