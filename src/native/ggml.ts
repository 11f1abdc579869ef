import type {
  GgmlAllocator,
  GgmlBackend,
  GgmlBuffer,
  GgmlBufferType,
  GgmlContext,
  GgmlDevice,
  GgmlGraph,
  GgmlRegistry,
  GgmlScheduler,
  GgmlTensor,
} from './handles.js';
import { binder, type LibraryHandle } from './koffi.js';
import type { DeviceProperties, ThreadpoolParams } from './structs.js';

/** `enum ggml_type`, the values that this package names. */
export const GgmlType = { F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q8_0: 8, Q4_K: 12, Q6_K: 14, I32: 26, I64: 27, BF16: 30 } as const;
export type GgmlType = number;

/** `enum ggml_backend_dev_type`. */
export const DeviceType = { CPU: 0, GPU: 1, IGPU: 2, ACCEL: 3 } as const;

type Context = GgmlContext;
type T = GgmlTensor;
type Unary = (ctx: Context, a: T) => T;
type Binary = (ctx: Context, a: T, b: T) => T;
type Rope = (
  ctx: Context,
  a: T,
  positions: T,
  frequencyFactors: T | null,
  dimensions: number,
  mode: number,
  originalContext: number,
  base: number,
  scale: number,
  extFactor: number,
  attentionFactor: number,
  betaFast: number,
  betaSlow: number,
) => T;
const ROPE =
  'void *ctx, void *a, void *pos, void *factors, int n_dims, int mode, int n_ctx_orig, float base, float scale, float ext, float attn, float beta_fast, float beta_slow';

/** The functions of `libggml-base` and `libggml` that this package calls, under their C names. */
export function bindGgml(baseLibrary: LibraryHandle, ggmlLibrary: LibraryHandle) {
  const base = binder(baseLibrary);
  const ggml = binder(ggmlLibrary);
  const unary = (name: string) => base<Unary>(`void *${name}(void *ctx, void *a)`);
  const binary = (name: string) => base<Binary>(`void *${name}(void *ctx, void *a, void *b)`);
  return {
    ggml_version: base<() => string>('const char *ggml_version()'),
    ggml_init: base<(params: { mem_size: number; mem_buffer: null; no_alloc: boolean }) => Context>(
      'void *ggml_init(ggml_init_params p)',
    ),
    ggml_free: base<(ctx: Context) => void>('void ggml_free(void *ctx)'),
    ggml_tensor_overhead: base<() => number | bigint>('size_t ggml_tensor_overhead()'),
    ggml_graph_overhead_custom: base<(size: number, gradients: boolean) => number | bigint>(
      'size_t ggml_graph_overhead_custom(size_t size, bool grads)',
    ),
    ggml_row_size: base<(type: number, elements: number) => number | bigint>('size_t ggml_row_size(int type, int64_t n)'),
    ggml_new_tensor_4d: base<(ctx: Context, type: number, ne0: number, ne1: number, ne2: number, ne3: number) => T>(
      'void *ggml_new_tensor_4d(void *ctx, int type, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3)',
    ),
    ggml_set_output: base<(tensor: T) => void>('void ggml_set_output(void *t)'),

    ggml_mul_mat: binary('ggml_mul_mat'),
    ggml_mul_mat_set_prec: base<(product: T, precision: number) => void>('void ggml_mul_mat_set_prec(void *a, int prec)'),
    ggml_add: binary('ggml_add'),
    ggml_add_inplace: binary('ggml_add_inplace'),
    ggml_sub: binary('ggml_sub'),
    ggml_mul: binary('ggml_mul'),
    ggml_div: binary('ggml_div'),
    ggml_log: unary('ggml_log'),
    ggml_exp: unary('ggml_exp'),
    ggml_sqr: unary('ggml_sqr'),
    ggml_sum: unary('ggml_sum'),
    ggml_sum_rows: unary('ggml_sum_rows'),
    ggml_argmax: unary('ggml_argmax'),
    ggml_rms_norm: base<(ctx: Context, a: T, epsilon: number) => T>('void *ggml_rms_norm(void *ctx, void *a, float eps)'),
    ggml_rms_norm_back: base<(ctx: Context, gradient: T, a: T, epsilon: number) => T>(
      'void *ggml_rms_norm_back(void *ctx, void *dy, void *x, float eps)',
    ),
    ggml_rope_ext: base<Rope>(`void *ggml_rope_ext(${ROPE})`),
    ggml_rope_ext_back: base<Rope>(`void *ggml_rope_ext_back(${ROPE})`),
    ggml_soft_max_ext: base<(ctx: Context, a: T, mask: T | null, scale: number, maxBias: number) => T>(
      'void *ggml_soft_max_ext(void *ctx, void *a, void *mask, float scale, float max_bias)',
    ),
    ggml_soft_max_ext_back: base<(ctx: Context, gradient: T, y: T, scale: number, maxBias: number) => T>(
      'void *ggml_soft_max_ext_back(void *ctx, void *dy, void *y, float scale, float max_bias)',
    ),
    ggml_set_param: base<(a: T) => void>('void ggml_set_param(void *a)'),
    ggml_opt_step_adamw: base<(ctx: Context, a: T, gradient: T, first: T, second: T, settings: T) => T>(
      'void *ggml_opt_step_adamw(void *ctx, void *a, void *gradient, void *m, void *v, void *settings)',
    ),
    ggml_silu: unary('ggml_silu'),
    ggml_silu_back: base<(ctx: Context, gradient: T, x: T) => T>('void *ggml_silu_back(void *ctx, void *dy, void *x)'),
    ggml_swiglu_split: binary('ggml_swiglu_split'),
    ggml_get_rows: base<(ctx: Context, a: T, ids: T) => T>('void *ggml_get_rows(void *ctx, void *a, void *ids)'),
    ggml_get_rows_back: base<(ctx: Context, gradient: T, ids: T, shape: T) => T>(
      'void *ggml_get_rows_back(void *ctx, void *dy, void *ids, void *shape)',
    ),
    ggml_cpy: binary('ggml_cpy'),
    ggml_set_rows: base<(ctx: Context, a: T, rows: T, ids: T) => T>(
      'void *ggml_set_rows(void *ctx, void *a, void *rows, void *ids)',
    ),
    ggml_concat: base<(ctx: Context, a: T, b: T, dimension: number) => T>(
      'void *ggml_concat(void *ctx, void *a, void *b, int dim)',
    ),
    ggml_repeat_4d: base<(ctx: Context, a: T, ne0: number, ne1: number, ne2: number, ne3: number) => T>(
      'void *ggml_repeat_4d(void *ctx, void *a, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3)',
    ),
    ggml_repeat_back: binary('ggml_repeat_back'),
    ggml_cont: unary('ggml_cont'),
    ggml_transpose: unary('ggml_transpose'),
    ggml_permute: base<(ctx: Context, a: T, axis0: number, axis1: number, axis2: number, axis3: number) => T>(
      'void *ggml_permute(void *ctx, void *a, int a0, int a1, int a2, int a3)',
    ),
    ggml_reshape_4d: base<(ctx: Context, a: T, ne0: number, ne1: number, ne2: number, ne3: number) => T>(
      'void *ggml_reshape_4d(void *ctx, void *a, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3)',
    ),
    ggml_view_4d: base<
      (
        ctx: Context,
        a: T,
        ne0: number,
        ne1: number,
        ne2: number,
        ne3: number,
        nb1: number,
        nb2: number,
        nb3: number,
        offset: number,
      ) => T
    >(
      'void *ggml_view_4d(void *ctx, void *a, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3, size_t nb1, size_t nb2, size_t nb3, size_t offset)',
    ),

    ggml_new_graph_custom: base<(ctx: Context, size: number, gradients: boolean) => GgmlGraph>(
      'void *ggml_new_graph_custom(void *ctx, size_t size, bool grads)',
    ),
    ggml_build_forward_expand: base<(graph: GgmlGraph, tensor: T) => void>(
      'void ggml_build_forward_expand(void *graph, void *t)',
    ),
    ggml_graph_n_nodes: base<(graph: GgmlGraph) => number>('int ggml_graph_n_nodes(void *graph)'),

    ggml_backend_alloc_ctx_tensors_from_buft: base<(ctx: Context, type: GgmlBufferType) => GgmlBuffer | null>(
      'void *ggml_backend_alloc_ctx_tensors_from_buft(void *ctx, void *buft)',
    ),
    ggml_backend_alloc_buffer: base<(backend: GgmlBackend, bytes: number) => GgmlBuffer | null>(
      'void *ggml_backend_alloc_buffer(void *backend, size_t bytes)',
    ),
    ggml_backend_buffer_get_base: base<(buffer: GgmlBuffer) => bigint>('void *ggml_backend_buffer_get_base(void *buffer)'),
    ggml_backend_buffer_clear: base<(buffer: GgmlBuffer, value: number) => void>(
      'void ggml_backend_buffer_clear(void *buffer, uint8_t value)',
    ),
    ggml_backend_buffer_free: base<(buffer: GgmlBuffer) => void>('void ggml_backend_buffer_free(void *buffer)'),
    ggml_backend_buffer_is_host: base<(buffer: GgmlBuffer) => boolean>('bool ggml_backend_buffer_is_host(void *buffer)'),
    ggml_backend_buffer_get_size: base<(buffer: GgmlBuffer) => number | bigint>(
      'size_t ggml_backend_buffer_get_size(void *buffer)',
    ),
    ggml_backend_buffer_set_usage: base<(buffer: GgmlBuffer, usage: number) => void>(
      'void ggml_backend_buffer_set_usage(void *buffer, int usage)',
    ),
    ggml_backend_tensor_set: base<(tensor: T, data: ArrayBufferView | bigint, offset: number, bytes: number) => void>(
      'void ggml_backend_tensor_set(void *t, const void *data, size_t offset, size_t bytes)',
    ),
    ggml_backend_tensor_get: base<(tensor: T, data: ArrayBufferView, offset: number, bytes: number) => void>(
      'void ggml_backend_tensor_get(void *t, void *data, size_t offset, size_t bytes)',
    ),
    ggml_gallocr_new: base<(type: GgmlBufferType) => GgmlAllocator>('void *ggml_gallocr_new(void *buft)'),
    ggml_gallocr_free: base<(allocator: GgmlAllocator) => void>('void ggml_gallocr_free(void *a)'),
    ggml_gallocr_alloc_graph: base<(allocator: GgmlAllocator, graph: GgmlGraph) => boolean>(
      'bool ggml_gallocr_alloc_graph(void *a, void *graph)',
    ),
    ggml_gallocr_get_buffer_size: base<(allocator: GgmlAllocator, id: number) => number | bigint>(
      'size_t ggml_gallocr_get_buffer_size(void *a, int id)',
    ),
    ggml_backend_graph_compute: base<(backend: GgmlBackend, graph: GgmlGraph) => number>(
      'int ggml_backend_graph_compute(void *backend, void *graph)',
    ),
    ggml_backend_sched_new: base<
      (backends: BigUint64Array, types: null, count: number, size: number, parallel: boolean, offload: boolean) => GgmlScheduler
    >('void *ggml_backend_sched_new(void *backends, void *bufts, int n, size_t size, bool parallel, bool op_offload)'),
    ggml_backend_sched_alloc_graph: base<(scheduler: GgmlScheduler, graph: GgmlGraph) => boolean>(
      'bool ggml_backend_sched_alloc_graph(void *s, void *graph)',
    ),
    ggml_backend_sched_graph_compute: base<(scheduler: GgmlScheduler, graph: GgmlGraph) => number>(
      'int ggml_backend_sched_graph_compute(void *s, void *graph)',
    ),
    ggml_backend_sched_get_buffer_size: base<(scheduler: GgmlScheduler, backend: GgmlBackend) => number | bigint>(
      'size_t ggml_backend_sched_get_buffer_size(void *s, void *backend)',
    ),
    ggml_backend_sched_free: base<(scheduler: GgmlScheduler) => void>('void ggml_backend_sched_free(void *s)'),

    ggml_backend_load: ggml<(path: string) => GgmlRegistry | null>('void *ggml_backend_load(const char *path)'),
    ggml_backend_load_all_from_path: ggml<(folder: string) => void>('void ggml_backend_load_all_from_path(const char *dir)'),
    ggml_backend_dev_count: ggml<() => number | bigint>('size_t ggml_backend_dev_count()'),
    ggml_backend_dev_get: ggml<(index: number) => GgmlDevice>('void *ggml_backend_dev_get(size_t i)'),
    ggml_backend_dev_get_props: base<(device: GgmlDevice, properties: DeviceProperties) => void>(
      'void ggml_backend_dev_get_props(void *dev, _Out_ ggml_backend_dev_props *p)',
    ),
    ggml_backend_dev_init: base<(device: GgmlDevice, parameters: null) => GgmlBackend | null>(
      'void *ggml_backend_dev_init(void *dev, const char *params)',
    ),
    ggml_backend_dev_backend_reg: base<(device: GgmlDevice) => GgmlRegistry>('void *ggml_backend_dev_backend_reg(void *dev)'),
    ggml_backend_reg_get_proc_address: base<(registry: GgmlRegistry, name: string) => bigint | null>(
      'void *ggml_backend_reg_get_proc_address(void *reg, const char *name)',
    ),
    ggml_backend_free: base<(backend: GgmlBackend) => void>('void ggml_backend_free(void *backend)'),
    ggml_backend_get_default_buffer_type: base<(backend: GgmlBackend) => GgmlBufferType>(
      'void *ggml_backend_get_default_buffer_type(void *backend)',
    ),
    ggml_backend_buft_name: base<(type: GgmlBufferType) => string>('const char *ggml_backend_buft_name(void *buft)'),
    ggml_backend_supports_op: base<(backend: GgmlBackend, tensor: T) => boolean>(
      'bool ggml_backend_supports_op(void *backend, void *t)',
    ),

    ggml_threadpool_params_default: base<(threads: number) => ThreadpoolParams>(
      'ggml_threadpool_params ggml_threadpool_params_default(int n_threads)',
    ),

    ggml_get_type_traits: base<(type: number) => bigint>('void *ggml_get_type_traits(int type)'),
    ggml_quantize_chunk: base<
      (
        type: number,
        source: Float32Array,
        target: Uint8Array,
        start: number,
        rows: number,
        perRow: number,
        importance: null,
      ) => number | bigint
    >(
      'size_t ggml_quantize_chunk(int type, const void *src, void *dst, int64_t start, int64_t rows, int64_t per_row, const void *imatrix)',
    ),
    ggml_quantize_requires_imatrix: base<(type: number) => boolean>('bool ggml_quantize_requires_imatrix(int type)'),
    ggml_fp32_to_bf16_row: base<(source: Float32Array, target: Uint16Array, count: number) => void>(
      'void ggml_fp32_to_bf16_row(const void *x, void *y, int64_t n)',
    ),
    ggml_fp32_to_fp16_row: base<(source: Float32Array, target: Uint16Array, count: number) => void>(
      'void ggml_fp32_to_fp16_row(const void *x, void *y, int64_t n)',
    ),
  };
}

export type Ggml = ReturnType<typeof bindGgml>;
