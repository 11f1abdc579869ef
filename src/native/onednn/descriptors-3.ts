import { binder, type LibraryHandle } from '../koffi.js';
import {
  Algorithm,
  BinaryAlgorithm,
  type DescriptorApi,
  type DnnlAttributes,
  type DnnlEngine,
  type DnnlMemoryDescriptor,
  type DnnlPostOps,
  type ElementOperation,
  Propagation,
} from './descriptors.js';
import { created, requireSuccess } from './status.js';

type Out = [unknown];
type Descriptor = DnnlMemoryDescriptor;

/** `dnnl_eltwise_…` in 3.x */
const ELEMENT_ALGORITHMS: Readonly<Record<ElementOperation, number>> = {
  linear: 0x26,
  sqrt: 0x25,
  power: 0x30,
  logistic: 0x29,
  exp: 0x2a,
};

/** Descriptors in oneDNN 3.x: opaque handles, made in one call. */
export function descriptors3(library: LibraryHandle): DescriptorApi {
  const c = bindDescriptors(library);
  return {
    memory: (dimensions, strides, type) => {
      const [d, s] = [dimensions, strides].map((list) => BigInt64Array.from(list, BigInt)) as [BigInt64Array, BigInt64Array];
      const { length } = dimensions;
      return created('dnnl_memory_desc_create_with_strides', c.dnnl_memory_desc_create_with_strides, length, d, type, s);
    },
    release: (descriptor) => {
      c.dnnl_memory_desc_destroy(descriptor);
    },
    matmul: (engine, a, b, target, attributes) =>
      created('dnnl_matmul_primitive_desc_create', c.dnnl_matmul_primitive_desc_create, engine, a, b, null, target, attributes),
    softmax: (engine, x, y, axis) =>
      created(
        'dnnl_softmax_forward_primitive_desc_create',
        c.dnnl_softmax_forward_primitive_desc_create,
        engine,
        Propagation.FORWARD_INFERENCE,
        Algorithm.SOFTMAX_ACCURATE,
        x,
        y,
        axis,
        null,
      ),
    element: (engine, operation, x) =>
      created(
        'dnnl_eltwise_forward_primitive_desc_create',
        c.dnnl_eltwise_forward_primitive_desc_create,
        engine,
        Propagation.FORWARD_INFERENCE,
        ELEMENT_ALGORITHMS[operation],
        x,
        x,
        0,
        0,
        null,
      ),
    binary: (engine, operation, a, b, target, attributes) =>
      created(
        'dnnl_binary_primitive_desc_create',
        c.dnnl_binary_primitive_desc_create,
        engine,
        BinaryAlgorithm[operation],
        a,
        b,
        target,
        attributes,
      ),
    appendSum: (postOps) => requireSuccess(c.dnnl_post_ops_append_sum(postOps, 1, 0, 0), 'dnnl_post_ops_append_sum'),
    appendElement: (postOps, operation, alpha, beta) => {
      const status = c.dnnl_post_ops_append_eltwise(postOps, ELEMENT_ALGORITHMS[operation], alpha, beta);
      requireSuccess(status, 'dnnl_post_ops_append_eltwise');
    },
    postOperationBase: 32_768,
  };
}

function bindDescriptors(library: LibraryHandle) {
  const bind = binder(library);
  return {
    dnnl_memory_desc_create_with_strides: bind<
      (descriptor: Out, count: number, dimensions: BigInt64Array, type: number, strides: BigInt64Array) => number
    >(
      'int dnnl_memory_desc_create_with_strides(_Out_ void **md, int ndims, const int64_t *dims, int type, const int64_t *strides)',
    ),
    dnnl_memory_desc_destroy: bind<(descriptor: Descriptor) => number>('int dnnl_memory_desc_destroy(void *md)'),
    dnnl_post_ops_append_sum: bind<(postOps: DnnlPostOps, scale: number, zeroPoint: number, type: number) => number>(
      'int dnnl_post_ops_append_sum(void *post_ops, float scale, int32_t zero_point, int type)',
    ),
    dnnl_post_ops_append_eltwise: bind<(postOps: DnnlPostOps, algorithm: number, alpha: number, beta: number) => number>(
      'int dnnl_post_ops_append_eltwise(void *post_ops, int alg, float alpha, float beta)',
    ),
    dnnl_matmul_primitive_desc_create: bind<
      (
        pd: Out,
        engine: DnnlEngine,
        a: Descriptor,
        b: Descriptor,
        bias: null,
        c: Descriptor,
        attributes: DnnlAttributes | null,
      ) => number
    >(
      'int dnnl_matmul_primitive_desc_create(_Out_ void **pd, void *engine, void *src, void *weights, void *bias, void *dst, void *attr)',
    ),
    dnnl_softmax_forward_primitive_desc_create: bind<
      (
        pd: Out,
        engine: DnnlEngine,
        propagation: number,
        algorithm: number,
        x: Descriptor,
        y: Descriptor,
        axis: number,
        attributes: null,
      ) => number
    >(
      'int dnnl_softmax_forward_primitive_desc_create(_Out_ void **pd, void *engine, int prop, int alg, void *src, void *dst, int axis, void *attr)',
    ),
    dnnl_eltwise_forward_primitive_desc_create: bind<
      (
        pd: Out,
        engine: DnnlEngine,
        propagation: number,
        algorithm: number,
        x: Descriptor,
        y: Descriptor,
        alpha: number,
        beta: number,
        attributes: null,
      ) => number
    >(
      'int dnnl_eltwise_forward_primitive_desc_create(_Out_ void **pd, void *engine, int prop, int alg, void *src, void *dst, float alpha, float beta, void *attr)',
    ),
    dnnl_binary_primitive_desc_create: bind<
      (
        pd: Out,
        engine: DnnlEngine,
        algorithm: number,
        a: Descriptor,
        b: Descriptor,
        c: Descriptor,
        attributes: DnnlAttributes | null,
      ) => number
    >(
      'int dnnl_binary_primitive_desc_create(_Out_ void **pd, void *engine, int alg, void *src0, void *src1, void *dst, void *attr)',
    ),
  };
}
