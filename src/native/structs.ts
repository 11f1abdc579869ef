import { koffi } from './koffi.js';

/** Struct layouts of llama.cpp v0.5.0; the version is checked before any of them is used. Names are the C names. */
koffi.struct('ggml_init_params', { mem_size: 'size_t', mem_buffer: 'void *', no_alloc: 'bool' });
koffi.struct('ggml_type_traits', {
  type_name: 'const char *',
  blck_size: 'int64_t',
  blck_size_interleave: 'int64_t',
  type_size: 'size_t',
  is_quantized: 'bool',
  to_float: 'void *',
  from_float_ref: 'void *',
});
koffi.struct('ggml_backend_dev_props', {
  name: 'const char *',
  description: 'const char *',
  memory_free: 'size_t',
  memory_total: 'size_t',
  type: 'int',
  device_id: 'const char *',
  async: 'bool',
  host_buffer: 'bool',
  buffer_from_host_ptr: 'bool',
  events: 'bool',
  mmap_support: 'bool',
});
koffi.struct('ggml_threadpool_params', {
  cpumask: koffi.array('bool', 512),
  n_threads: 'int',
  prio: 'int',
  poll: 'uint32_t',
  strict_cpu: 'bool',
  paused: 'bool',
});
koffi.struct('llama_model_params', {
  devices: 'void *',
  tensor_buft_overrides: 'void *',
  n_gpu_layers: 'int32_t',
  split_mode: 'int',
  load_mode: 'int',
  lazy_mode: 'int',
  main_gpu: 'int32_t',
  tensor_split: 'void *',
  progress_callback: 'void *',
  progress_callback_user_data: 'void *',
  kv_overrides: 'void *',
  vocab_only: 'bool',
  check_tensors: 'bool',
  use_extra_bufts: 'bool',
  no_host: 'bool',
  no_alloc: 'bool',
  load_mtp: 'bool',
});
koffi.struct('llama_model_quantize_params', {
  nthread: 'int32_t',
  ftype: 'int',
  output_tensor_type: 'int',
  token_embedding_type: 'int',
  allow_requantize: 'bool',
  quantize_output_tensor: 'bool',
  only_copy: 'bool',
  pure: 'bool',
  keep_split: 'bool',
  dry_run: 'bool',
  imatrix: 'void *',
  kv_overrides: 'void *',
  tt_overrides: 'void *',
  prune_layers: 'void *',
  max_buf_size: 'size_t',
});
koffi.struct('llama_context_params', {
  n_ctx: 'uint32_t',
  n_batch: 'uint32_t',
  n_ubatch: 'uint32_t',
  n_seq_max: 'uint32_t',
  n_rs_seq: 'uint32_t',
  n_outputs_max: 'uint32_t',
  n_outputs_max_per_seq: 'uint32_t',
  n_threads: 'int32_t',
  n_threads_batch: 'int32_t',
  ctx_type: 'int',
  rope_scaling_type: 'int',
  pooling_type: 'int',
  attention_type: 'int',
  flash_attn_type: 'int',
  rope_freq_base: 'float',
  rope_freq_scale: 'float',
  yarn_ext_factor: 'float',
  yarn_attn_factor: 'float',
  yarn_beta_fast: 'float',
  yarn_beta_slow: 'float',
  yarn_orig_ctx: 'uint32_t',
  defrag_thold: 'float',
  cb_eval: 'void *',
  cb_eval_user_data: 'void *',
  type_k: 'int',
  type_v: 'int',
  abort_callback: 'void *',
  abort_callback_data: 'void *',
  embeddings: 'bool',
  offload_kqv: 'bool',
  no_perf: 'bool',
  op_offload: 'bool',
  swa_full: 'bool',
  kv_unified: 'bool',
  samplers: 'void *',
  n_samplers: 'size_t',
  ctx_other: 'void *',
});
koffi.struct('llama_batch', {
  n_tokens: 'int32_t',
  token: 'void *',
  embd: 'void *',
  pos: 'void *',
  n_seq_id: 'void *',
  seq_id: 'void *',
  logits: 'void *',
});
koffi.struct('llama_token_data_array', { data: 'void *', size: 'size_t', selected: 'int64_t', sorted: 'bool' });

/** Sizes that gcc gives these structs in the v0.5.0 headers: koffi's must be equal or every call would be wrong. */
export const STRUCT_SIZES: Readonly<Record<string, number>> = {
  ggml_init_params: 24,
  ggml_type_traits: 56,
  ggml_backend_dev_props: 56,
  ggml_threadpool_params: 528,
  llama_model_params: 80,
  llama_model_quantize_params: 64,
  llama_context_params: 160,
  llama_batch: 56,
  llama_token_data_array: 32,
};

export interface DeviceProperties {
  name: string;
  description: string;
  memory_free: number | bigint;
  memory_total: number | bigint;
  type: number;
}

/** `ggml_threadpool_params`; start from the library's defaults and override. */
export interface ThreadpoolParams {
  n_threads: number;
  poll: number;
  [field: string]: unknown;
}

/** `llama_model_params`; start from the library's defaults and override. */
export interface LlamaModelParams {
  n_gpu_layers: number;
  load_mode: number;
  vocab_only: boolean;
  use_extra_bufts: boolean;
  [field: string]: unknown;
}

/** `llama_model_quantize_params`; start from the library's defaults and override. */
export interface LlamaModelQuantizeParams {
  nthread: number;
  ftype: number;
  allow_requantize: boolean;
  max_buf_size: number;
  [field: string]: unknown;
}

/** `llama_context_params`; start from the library's defaults and override. */
export interface LlamaContextParams {
  n_ctx: number;
  n_batch: number;
  n_ubatch: number;
  n_seq_max: number;
  n_threads: number;
  n_threads_batch: number;
  flash_attn_type: number;
  type_k: number;
  type_v: number;
  kv_unified: boolean;
  offload_kqv: boolean;
  no_perf: boolean;
  [field: string]: unknown;
}

/** `llama_batch`: addresses of the arrays that `llama_batch_init` made. */
export interface LlamaBatch {
  n_tokens: number;
  token: bigint;
  embd: bigint | null;
  pos: bigint;
  n_seq_id: bigint;
  seq_id: bigint;
  logits: bigint;
}

/** Words of a `llama_token_data`: the id, its logit and its probability, 32 bits each. */
export const TOKEN_DATA_WORDS = 3;

/** `llama_token_data_array`; `data` are the entries, which native code changes in place. */
export interface LlamaTokenDataArray {
  data: Uint8Array;
  size: number;
  selected: number;
  sorted: boolean;
}
