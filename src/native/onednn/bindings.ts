import { binder, type LibraryHandle } from '../koffi.js';
import type {
  DnnlAttributes,
  DnnlEngine,
  DnnlMemory,
  DnnlMemoryDescriptor,
  DnnlPostOps,
  DnnlPrimitive,
  DnnlPrimitiveDescriptor,
  DnnlStream,
} from './descriptors.js';

type Out = [unknown];

/** The functions of oneDNN whose signatures are the same in 2.x and 3.x, under their C names. */
export function bindOneDnn(library: LibraryHandle) {
  const bind = binder(library);
  return {
    dnnl_engine_create: bind<(engine: Out, kind: number, index: number) => number>(
      'int dnnl_engine_create(_Out_ void **engine, int kind, size_t index)',
    ),
    dnnl_engine_destroy: bind<(engine: DnnlEngine) => number>('int dnnl_engine_destroy(void *engine)'),
    dnnl_stream_create: bind<(stream: Out, engine: DnnlEngine, flags: number) => number>(
      'int dnnl_stream_create(_Out_ void **stream, void *engine, unsigned int flags)',
    ),
    dnnl_stream_wait: bind<(stream: DnnlStream) => number>('int dnnl_stream_wait(void *stream)'),
    dnnl_stream_destroy: bind<(stream: DnnlStream) => number>('int dnnl_stream_destroy(void *stream)'),
    dnnl_memory_create: bind<
      (memory: Out, descriptor: DnnlMemoryDescriptor, engine: DnnlEngine, address: bigint | null) => number
    >('int dnnl_memory_create(_Out_ void **memory, void *md, void *engine, void *handle)'),
    dnnl_memory_set_data_handle: bind<(memory: DnnlMemory, address: bigint) => number>(
      'int dnnl_memory_set_data_handle(void *memory, void *handle)',
    ),
    dnnl_memory_destroy: bind<(memory: DnnlMemory) => number>('int dnnl_memory_destroy(void *memory)'),
    dnnl_primitive_create: bind<(primitive: Out, descriptor: DnnlPrimitiveDescriptor) => number>(
      'int dnnl_primitive_create(_Out_ void **primitive, void *pd)',
    ),
    dnnl_primitive_execute: bind<(primitive: DnnlPrimitive, stream: DnnlStream, count: number, args: BigInt64Array) => number>(
      'int dnnl_primitive_execute(void *primitive, void *stream, int nargs, void *args)',
    ),
    dnnl_primitive_destroy: bind<(primitive: DnnlPrimitive) => number>('int dnnl_primitive_destroy(void *primitive)'),
    dnnl_primitive_desc_query: bind<(descriptor: DnnlPrimitiveDescriptor, what: number, index: number, result: Out) => number>(
      'int dnnl_primitive_desc_query(void *pd, int what, int index, _Out_ const char **result)',
    ),
    dnnl_primitive_desc_destroy: bind<(descriptor: DnnlPrimitiveDescriptor) => number>(
      'int dnnl_primitive_desc_destroy(void *pd)',
    ),
    dnnl_primitive_attr_create: bind<(attributes: Out) => number>('int dnnl_primitive_attr_create(_Out_ void **attr)'),
    dnnl_primitive_attr_set_post_ops: bind<(attributes: DnnlAttributes, postOps: DnnlPostOps) => number>(
      'int dnnl_primitive_attr_set_post_ops(void *attr, void *post_ops)',
    ),
    dnnl_primitive_attr_destroy: bind<(attributes: DnnlAttributes) => number>('int dnnl_primitive_attr_destroy(void *attr)'),
    dnnl_post_ops_create: bind<(postOps: Out) => number>('int dnnl_post_ops_create(_Out_ void **post_ops)'),
    dnnl_post_ops_append_binary: bind<(postOps: DnnlPostOps, algorithm: number, operand: DnnlMemoryDescriptor) => number>(
      'int dnnl_post_ops_append_binary(void *post_ops, int alg, void *operand)',
    ),
    dnnl_post_ops_destroy: bind<(postOps: DnnlPostOps) => number>('int dnnl_post_ops_destroy(void *post_ops)'),
    dnnl_reorder_primitive_desc_create: bind<
      (
        descriptor: Out,
        source: DnnlMemoryDescriptor,
        sourceEngine: DnnlEngine,
        target: DnnlMemoryDescriptor,
        targetEngine: DnnlEngine,
        attributes: DnnlAttributes | null,
      ) => number
    >(
      'int dnnl_reorder_primitive_desc_create(_Out_ void **pd, void *src, void *src_engine, void *dst, void *dst_engine, void *attr)',
    ),
  };
}

export type OneDnnBindings = ReturnType<typeof bindOneDnn>;
