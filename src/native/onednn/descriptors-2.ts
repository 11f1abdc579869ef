import { binder, type LibraryHandle } from '../koffi.js';
import {
  Algorithm,
  BinaryAlgorithm,
  type DescriptorApi,
  type DnnlAttributes,
  type DnnlEngine,
  type DnnlMemoryDescriptor,
  type DnnlPostOps,
  type DnnlPrimitiveDescriptor,
  type ElementOperation,
  Propagation,
} from './descriptors.js';
import { created, requireSuccess } from './status.js';

/** Sizes of the structs of 2.6 in bytes. They are only handed from one call to the next. */
const STRUCT_BYTES = { memory: 696, matmul: 2_800, softmax: 2_800, eltwise: 1_416, binary: 2_096 } as const;

/** `dnnl_eltwise_…` in 2.x */
const ELEMENT_ALGORITHMS: Readonly<Record<ElementOperation, number>> = {
  linear: 0x7f,
  sqrt: 0x6f,
  power: 0x20,
  logistic: 0xaf,
  exp: 0xbf,
};

type Descriptor = DnnlMemoryDescriptor;

/** Descriptors in oneDNN 2.6: structs of the caller, from which `dnnl_primitive_desc_create` makes the handle. */
export function descriptors2(library: LibraryHandle): DescriptorApi {
  const c = bindDescriptors(library);
  const operation = (kind: keyof typeof STRUCT_BYTES, initialize: (struct: Uint8Array) => number) => {
    const struct = new Uint8Array(STRUCT_BYTES[kind]);
    requireSuccess(initialize(struct), `the descriptor of ${kind}`);
    return struct;
  };
  const primitive = (engine: DnnlEngine, struct: Uint8Array, attributes: DnnlAttributes | null = null): DnnlPrimitiveDescriptor =>
    created('dnnl_primitive_desc_create', c.dnnl_primitive_desc_create, struct, attributes, engine, null);
  return {
    memory: (dimensions, strides, type) => {
      const [d, s] = [dimensions, strides].map((list) => BigInt64Array.from(list, BigInt)) as [BigInt64Array, BigInt64Array];
      return operation('memory', (struct) => c.dnnl_memory_desc_init_by_strides(struct, dimensions.length, d, type, s));
    },
    // Structs of the caller.
    release: () => {},
    matmul: (engine, a, b, target, attributes) =>
      primitive(
        engine,
        operation('matmul', (struct) => c.dnnl_matmul_desc_init(struct, a, b, null, target)),
        attributes,
      ),
    softmax: (engine, x, y, axis) => {
      const { FORWARD_INFERENCE } = Propagation;
      const initialize = (struct: Uint8Array) =>
        c.dnnl_softmax_v2_forward_desc_init(struct, FORWARD_INFERENCE, Algorithm.SOFTMAX_ACCURATE, x, y, axis);
      return primitive(engine, operation('softmax', initialize));
    },
    element: (engine, kind, x) => {
      const { FORWARD_INFERENCE } = Propagation;
      const initialize = (struct: Uint8Array) =>
        c.dnnl_eltwise_forward_desc_init(struct, FORWARD_INFERENCE, ELEMENT_ALGORITHMS[kind], x, 0, 0);
      return primitive(engine, operation('eltwise', initialize));
    },
    binary: (engine, kind, a, b, target, attributes) =>
      primitive(
        engine,
        operation('binary', (struct) => c.dnnl_binary_desc_init(struct, BinaryAlgorithm[kind], a, b, target)),
        attributes,
      ),
    appendSum: (postOps) => requireSuccess(c.dnnl_post_ops_append_sum(postOps, 1), 'dnnl_post_ops_append_sum'),
    appendElement: (postOps, kind, alpha, beta) => {
      const status = c.dnnl_post_ops_append_eltwise(postOps, 1, ELEMENT_ALGORITHMS[kind], alpha, beta);
      requireSuccess(status, 'dnnl_post_ops_append_eltwise');
    },
    postOperationBase: 16_384,
  };
}

function bindDescriptors(library: LibraryHandle) {
  const bind = binder(library);
  return {
    dnnl_memory_desc_init_by_strides: bind<
      (descriptor: Uint8Array, count: number, dimensions: BigInt64Array, type: number, strides: BigInt64Array) => number
    >('int dnnl_memory_desc_init_by_strides(void *md, int ndims, const int64_t *dims, int type, const int64_t *strides)'),
    dnnl_primitive_desc_create: bind<
      (pd: [unknown], operation: Uint8Array, attributes: DnnlAttributes | null, engine: DnnlEngine, forward: null) => number
    >('int dnnl_primitive_desc_create(_Out_ void **pd, void *op_desc, void *attr, void *engine, void *hint)'),
    dnnl_post_ops_append_sum: bind<(postOps: DnnlPostOps, scale: number) => number>(
      'int dnnl_post_ops_append_sum(void *post_ops, float scale)',
    ),
    dnnl_post_ops_append_eltwise: bind<
      (postOps: DnnlPostOps, scale: number, algorithm: number, alpha: number, beta: number) => number
    >('int dnnl_post_ops_append_eltwise(void *post_ops, float scale, int alg, float alpha, float beta)'),
    dnnl_matmul_desc_init: bind<(target: Uint8Array, a: Descriptor, b: Descriptor, bias: null, c: Descriptor) => number>(
      'int dnnl_matmul_desc_init(void *desc, void *src, void *weights, void *bias, void *dst)',
    ),
    dnnl_softmax_v2_forward_desc_init: bind<
      (target: Uint8Array, propagation: number, algorithm: number, x: Descriptor, y: Descriptor, axis: number) => number
    >('int dnnl_softmax_v2_forward_desc_init(void *desc, int prop, int alg, void *src, void *dst, int axis)'),
    dnnl_eltwise_forward_desc_init: bind<
      (target: Uint8Array, propagation: number, algorithm: number, x: Descriptor, alpha: number, beta: number) => number
    >('int dnnl_eltwise_forward_desc_init(void *desc, int prop, int alg, void *data, float alpha, float beta)'),
    dnnl_binary_desc_init: bind<(target: Uint8Array, algorithm: number, a: Descriptor, b: Descriptor, c: Descriptor) => number>(
      'int dnnl_binary_desc_init(void *desc, int alg, void *src0, void *src1, void *dst)',
    ),
  };
}
