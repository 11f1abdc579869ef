/** Addresses of oneDNN's objects, kept apart by a brand as ggml's are (`handles.ts`). */
declare const brand: unique symbol;
export type DnnlEngine = bigint & { readonly [brand]: 'dnnl_engine' };
export type DnnlStream = bigint & { readonly [brand]: 'dnnl_stream' };
export type DnnlMemory = bigint & { readonly [brand]: 'dnnl_memory' };
export type DnnlPrimitive = bigint & { readonly [brand]: 'dnnl_primitive' };
export type DnnlPrimitiveDescriptor = bigint & { readonly [brand]: 'dnnl_primitive_desc' };
export type DnnlAttributes = bigint & { readonly [brand]: 'dnnl_primitive_attr' };
export type DnnlPostOps = bigint & { readonly [brand]: 'dnnl_post_ops' };
/** `dnnl_memory_desc_t`: a handle in 3.x, in 2.x a struct of the caller. */
export type DnnlMemoryDescriptor = bigint | Uint8Array;

/** `dnnl_data_type_t` */
export const DataType = { BF16: 2, F32: 3 } as const;
/** `dnnl_prop_kind_t`, equal in 2.x and 3.x. */
export const Propagation = { FORWARD_INFERENCE: 96 } as const;
/** `dnnl_alg_kind_t`, those that are equal in 2.x and 3.x. */
export const Algorithm = { SOFTMAX_ACCURATE: 0x30000 } as const;
/** Of these, operations with two factors. */
export const BinaryAlgorithm = { add: 0x1fff0, multiply: 0x1fff1, divide: 0x1fff4, subtract: 0x1fff5 } as const;
/** `DNNL_ARG_…`: what an argument of a primitive is. */
export const Argument = { SRC: 1, SRC_1: 2, DST: 17, WEIGHTS: 33 } as const;

export type BinaryOperation = keyof typeof BinaryAlgorithm;
/** α·x + β, √x, x to the power of β times α, 1 / (1 + e⁻ˣ), and eˣ. */
export type ElementOperation = 'linear' | 'sqrt' | 'power' | 'logistic' | 'exp';

/**
 * Where the APIs of 2.x and 3.x differ: how the descriptor of a primitive is made. Elsewhere names, signatures and numbers
 * agree (`bindings.ts`).
 */
export interface DescriptorApi {
  memory(dimensions: readonly number[], strides: readonly number[], type: number): DnnlMemoryDescriptor;
  /** Frees what {@link memory} made; primitives and memories have copies of their own. */
  release(descriptor: DnnlMemoryDescriptor): void;
  /** c = a · b, batched over the outer dimensions. */
  matmul(
    engine: DnnlEngine,
    a: DnnlMemoryDescriptor,
    b: DnnlMemoryDescriptor,
    c: DnnlMemoryDescriptor,
    attributes: DnnlAttributes | null,
  ): DnnlPrimitiveDescriptor;
  softmax(engine: DnnlEngine, x: DnnlMemoryDescriptor, y: DnnlMemoryDescriptor, axis: number): DnnlPrimitiveDescriptor;
  /** An operation without parameters. */
  element(engine: DnnlEngine, operation: ElementOperation, x: DnnlMemoryDescriptor): DnnlPrimitiveDescriptor;
  binary(
    engine: DnnlEngine,
    operation: BinaryOperation,
    a: DnnlMemoryDescriptor,
    b: DnnlMemoryDescriptor,
    c: DnnlMemoryDescriptor,
    attributes: DnnlAttributes | null,
  ): DnnlPrimitiveDescriptor;
  /** Makes what follows add its result to what lies there. */
  appendSum(postOps: DnnlPostOps): void;
  appendElement(postOps: DnnlPostOps, operation: ElementOperation, alpha: number, beta: number): void;
  /** `DNNL_ARG_ATTR_MULTIPLE_POST_OP_BASE`: the number of the first post operation's argument, and between two of them. */
  postOperationBase: number;
}
