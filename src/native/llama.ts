import type { GgmlThreadpool, LlamaContext, LlamaMemory, LlamaModel, LlamaSampler, LlamaVocabulary } from './handles.js';
import { binder, type LibraryHandle } from './koffi.js';
import type {
  LlamaBatch,
  LlamaContextParams,
  LlamaModelParams,
  LlamaModelQuantizeParams,
  LlamaTokenDataArray,
} from './structs.js';

/** `enum llama_flash_attn_type`. */
export const FlashAttention = { AUTO: -1, OFF: 0, ON: 1 } as const;

/** `enum llama_ftype`: the type of most matrices of a file. */
export const FileType = { Q4_0: 2, Q8_0: 7 } as const;

/** libllama refuses more sequences than this in one context, and aborts in state and memory calls beyond it. */
export const MAX_SEQUENCES = 256;

/** The functions of `libllama` that this package calls, under their C names. */
export function bindLlama(library: LibraryHandle) {
  const bind = binder(library);
  return {
    llama_version: bind<() => string>('const char *llama_version()'),
    llama_log_set: bind<(callback: unknown, user: null) => void>('void llama_log_set(void *cb, void *user)'),
    llama_model_default_params: bind<() => LlamaModelParams>('llama_model_params llama_model_default_params()'),
    llama_context_default_params: bind<() => LlamaContextParams>('llama_context_params llama_context_default_params()'),
    llama_model_load_from_file: bind<(path: string, params: LlamaModelParams) => LlamaModel | null>(
      'void *llama_model_load_from_file(const char *path, llama_model_params p)',
    ),
    llama_model_free: bind<(model: LlamaModel) => void>('void llama_model_free(void *model)'),
    llama_model_get_vocab: bind<(model: LlamaModel) => LlamaVocabulary>('void *llama_model_get_vocab(void *model)'),

    llama_model_quantize_default_params: bind<() => LlamaModelQuantizeParams>(
      'llama_model_quantize_params llama_model_quantize_default_params()',
    ),
    llama_model_quantize: bind<(from: string, to: string, params: LlamaModelQuantizeParams) => number>(
      'uint32_t llama_model_quantize(const char *from, const char *to, const llama_model_quantize_params *params)',
    ),

    llama_vocab_type: bind<(vocabulary: LlamaVocabulary) => number>('int llama_vocab_type(void *vocab)'),
    llama_vocab_n_tokens: bind<(vocabulary: LlamaVocabulary) => number>('int32_t llama_vocab_n_tokens(void *vocab)'),
    llama_vocab_is_eog: bind<(vocabulary: LlamaVocabulary, token: number) => boolean>(
      'bool llama_vocab_is_eog(void *vocab, int32_t token)',
    ),
    llama_vocab_bos: bind<(vocabulary: LlamaVocabulary) => number>('int32_t llama_vocab_bos(void *vocab)'),
    llama_vocab_eos: bind<(vocabulary: LlamaVocabulary) => number>('int32_t llama_vocab_eos(void *vocab)'),
    llama_tokenize: bind<
      (
        vocabulary: LlamaVocabulary,
        text: Uint8Array,
        bytes: number,
        tokens: Int32Array,
        capacity: number,
        addSpecial: boolean,
        parseSpecial: boolean,
      ) => number
    >(
      'int32_t llama_tokenize(void *vocab, const void *text, int32_t bytes, void *out, int32_t max, bool add_special, bool parse_special)',
    ),
    llama_token_to_piece: bind<
      (
        vocabulary: LlamaVocabulary,
        token: number,
        buffer: Uint8Array,
        capacity: number,
        strip: number,
        special: boolean,
      ) => number
    >('int32_t llama_token_to_piece(void *vocab, int32_t token, void *buf, int32_t max, int32_t lstrip, bool special)'),

    llama_init_from_model: bind<(model: LlamaModel, params: LlamaContextParams) => LlamaContext | null>(
      'void *llama_init_from_model(void *model, llama_context_params p)',
    ),
    llama_free: bind<(context: LlamaContext) => void>('void llama_free(void *ctx)'),
    llama_attach_threadpool: bind<(context: LlamaContext, decode: GgmlThreadpool, batch: GgmlThreadpool) => void>(
      'void llama_attach_threadpool(void *ctx, void *threadpool, void *threadpool_batch)',
    ),
    llama_n_ctx: bind<(context: LlamaContext) => number>('uint32_t llama_n_ctx(void *ctx)'),
    llama_n_seq_max: bind<(context: LlamaContext) => number>('uint32_t llama_n_seq_max(void *ctx)'),
    llama_batch_init: bind<(tokens: number, embeddings: number, sequences: number) => LlamaBatch>(
      'llama_batch llama_batch_init(int32_t n, int32_t embd, int32_t n_seq_max)',
    ),
    llama_batch_free: bind<(batch: LlamaBatch) => void>('void llama_batch_free(llama_batch b)'),
    llama_decode: bind<(context: LlamaContext, batch: LlamaBatch) => number>('int32_t llama_decode(void *ctx, llama_batch b)'),
    llama_synchronize: bind<(context: LlamaContext) => void>('void llama_synchronize(void *ctx)'),
    llama_get_logits_ith: bind<(context: LlamaContext, row: number) => bigint | null>(
      'void *llama_get_logits_ith(void *ctx, int32_t row)',
    ),

    llama_get_memory: bind<(context: LlamaContext) => LlamaMemory>('void *llama_get_memory(void *ctx)'),
    llama_memory_clear: bind<(memory: LlamaMemory, data: boolean) => void>('void llama_memory_clear(void *mem, bool data)'),
    llama_memory_seq_rm: bind<(memory: LlamaMemory, sequence: number, from: number, to: number) => boolean>(
      'bool llama_memory_seq_rm(void *mem, int32_t seq, int32_t p0, int32_t p1)',
    ),
    llama_memory_seq_cp: bind<(memory: LlamaMemory, from: number, to: number, start: number, end: number) => void>(
      'void llama_memory_seq_cp(void *mem, int32_t from, int32_t to, int32_t p0, int32_t p1)',
    ),
    llama_memory_seq_pos_max: bind<(memory: LlamaMemory, sequence: number) => number>(
      'int32_t llama_memory_seq_pos_max(void *mem, int32_t seq)',
    ),
    llama_sampler_init_grammar: bind<(vocabulary: LlamaVocabulary, grammar: string, root: string) => LlamaSampler | null>(
      'void *llama_sampler_init_grammar(void *vocab, const char *grammar, const char *root)',
    ),
    llama_sampler_apply: bind<(sampler: LlamaSampler, candidates: LlamaTokenDataArray) => void>(
      'void llama_sampler_apply(void *sampler, llama_token_data_array *candidates)',
    ),
    llama_sampler_accept: bind<(sampler: LlamaSampler, token: number) => void>(
      'void llama_sampler_accept(void *sampler, int32_t token)',
    ),
    llama_sampler_free: bind<(sampler: LlamaSampler) => void>('void llama_sampler_free(void *sampler)'),

    llama_state_seq_get_size: bind<(context: LlamaContext, sequence: number) => number | bigint>(
      'size_t llama_state_seq_get_size(void *ctx, int32_t seq)',
    ),
    llama_state_seq_get_data: bind<
      (context: LlamaContext, data: Uint8Array | bigint, bytes: number, sequence: number) => number | bigint
    >('size_t llama_state_seq_get_data(void *ctx, void *dst, size_t n, int32_t seq)'),
    llama_state_seq_set_data: bind<
      (context: LlamaContext, data: Uint8Array | bigint, bytes: number, sequence: number) => number | bigint
    >('size_t llama_state_seq_set_data(void *ctx, const void *src, size_t n, int32_t seq)'),
  };
}

export type Llama = ReturnType<typeof bindLlama>;
