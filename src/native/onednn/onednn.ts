import { CartridgesError } from '../../core/errors.js';
import {
  Argument,
  BinaryAlgorithm,
  type BinaryOperation,
  type DnnlAttributes,
  type DnnlEngine,
  type DnnlMemory,
  type DnnlMemoryDescriptor,
  type DnnlPostOps,
  type DnnlPrimitive,
  type DnnlPrimitiveDescriptor,
  type DnnlStream,
  type ElementOperation,
} from './descriptors.js';
import type { OneDnnLibrary } from './library.js';
import { created, requireSuccess } from './status.js';

const CPU = 1;
const IN_ORDER = 1;
/** `dnnl_query_impl_info_str` */
const QUERY_IMPLEMENTATION = 8;

/** A primitive that is ready to run on the memory at the given addresses. */
export interface OneDnnKernel {
  run(...addresses: bigint[]): void;
  /** oneDNN's name of the code behind it, for example `brg:avx2`; names with `ref` are reference code, tens of times slower. */
  implementation: string;
}

/**
 * What a primitive does to each value of its result before it stores it: to add what lies there, an operation with a further
 * operand, whose dimensions of 1 count for all, α·x + β, or 1 / √x.
 */
export type PostOperation<Operand = DnnlMemoryDescriptor> =
  | { kind: 'add to result' }
  | { kind: BinaryOperation; operand: Operand }
  | { kind: 'linear'; scale: number; shift: number }
  | { kind: 'inverse root' };

/**
 * oneDNN's primitives for one thread: made once for fixed shapes, run as often as wanted on memory anywhere in the process.
 * A call returns when its work is done. Owns all that it made; {@link OneDnn.dispose} frees it.
 */
export class OneDnn {
  readonly version: string;
  readonly #library: OneDnnLibrary;
  readonly #engine: DnnlEngine;
  readonly #stream: DnnlStream;
  readonly #primitives: DnnlPrimitive[] = [];
  readonly #memories: DnnlMemory[] = [];
  readonly #descriptors: DnnlMemoryDescriptor[] = [];

  constructor(library: OneDnnLibrary) {
    const { bindings } = library;
    this.#library = library;
    this.version = library.version;
    this.#engine = created('dnnl_engine_create', bindings.dnnl_engine_create, CPU, 0);
    this.#stream = created('dnnl_stream_create', bindings.dnnl_stream_create, this.#engine, IN_ORDER);
  }

  /** Describes memory: dimensions outermost first, strides in elements, a `dnnl_data_type_t`. */
  describe(dimensions: readonly number[], strides: readonly number[], type: number): DnnlMemoryDescriptor {
    const descriptor = this.#library.descriptors.memory(dimensions, strides, type);
    this.#descriptors.push(descriptor);
    return descriptor;
  }

  /** Runs with the addresses of a, b, c = a · b, and of the operands of what is done to c. */
  matmul(
    a: DnnlMemoryDescriptor,
    b: DnnlMemoryDescriptor,
    c: DnnlMemoryDescriptor,
    after: readonly PostOperation[],
  ): OneDnnKernel {
    const descriptor = this.#withAttributes(after, (attributes) =>
      this.#library.descriptors.matmul(this.#engine, a, b, c, attributes),
    );
    return this.#kernel(descriptor, [Argument.SRC, Argument.WEIGHTS, Argument.DST], [a, b, c], after);
  }

  /** Runs with the addresses of a, b, c = a ∘ b, and of the operands of what is done to c. Dimensions of 1 in b count for all. */
  binary(
    operation: BinaryOperation,
    a: DnnlMemoryDescriptor,
    b: DnnlMemoryDescriptor,
    c: DnnlMemoryDescriptor,
    after: readonly PostOperation[],
  ): OneDnnKernel {
    const descriptor = this.#withAttributes(after, (attributes) =>
      this.#library.descriptors.binary(this.#engine, operation, a, b, c, attributes),
    );
    return this.#kernel(descriptor, [Argument.SRC, Argument.SRC_1, Argument.DST], [a, b, c], after);
  }

  /** Runs with the addresses of source and target, which may differ in strides and type. */
  reorder(source: DnnlMemoryDescriptor, target: DnnlMemoryDescriptor): OneDnnKernel {
    const { dnnl_reorder_primitive_desc_create: create } = this.#library.bindings;
    const descriptor = created<DnnlPrimitiveDescriptor, Parameters<typeof create> extends [unknown, ...infer R] ? R : never>(
      'dnnl_reorder_primitive_desc_create',
      create,
      source,
      this.#engine,
      target,
      this.#engine,
      null,
    );
    return this.#kernel(descriptor, [Argument.SRC, Argument.DST], [source, target]);
  }

  /** Runs with the addresses of x and y, which may be the same. */
  softmax(x: DnnlMemoryDescriptor, y: DnnlMemoryDescriptor, axis: number): OneDnnKernel {
    const descriptor = this.#library.descriptors.softmax(this.#engine, x, y, axis);
    return this.#kernel(descriptor, [Argument.SRC, Argument.DST], [x, y]);
  }

  /** Runs with the addresses of x and of the result, which may be the same. */
  element(operation: ElementOperation, x: DnnlMemoryDescriptor): OneDnnKernel {
    const descriptor = this.#library.descriptors.element(this.#engine, operation, x);
    return this.#kernel(descriptor, [Argument.SRC, Argument.DST], [x, x]);
  }

  dispose(): void {
    const { bindings } = this.#library;
    for (const primitive of this.#primitives) bindings.dnnl_primitive_destroy(primitive);
    for (const memory of this.#memories) bindings.dnnl_memory_destroy(memory);
    for (const descriptor of this.#descriptors) this.#library.descriptors.release(descriptor);
    bindings.dnnl_stream_destroy(this.#stream);
    bindings.dnnl_engine_destroy(this.#engine);
  }

  /** Descriptors keep a copy of the attributes. */
  #withAttributes(
    after: readonly PostOperation[],
    create: (attributes: DnnlAttributes | null) => DnnlPrimitiveDescriptor,
  ): DnnlPrimitiveDescriptor {
    if (after.length === 0) return create(null);
    const { bindings } = this.#library;
    const postOps = created<DnnlPostOps, []>('dnnl_post_ops_create', bindings.dnnl_post_ops_create);
    const attributes = created<DnnlAttributes, []>('dnnl_primitive_attr_create', bindings.dnnl_primitive_attr_create);
    try {
      for (const operation of after) this.#append(postOps, operation);
      requireSuccess(bindings.dnnl_primitive_attr_set_post_ops(attributes, postOps), 'dnnl_primitive_attr_set_post_ops');
      return create(attributes);
    } finally {
      bindings.dnnl_primitive_attr_destroy(attributes);
      bindings.dnnl_post_ops_destroy(postOps);
    }
  }

  #append(postOps: DnnlPostOps, operation: PostOperation): void {
    const { bindings, descriptors } = this.#library;
    switch (operation.kind) {
      case 'add to result':
        descriptors.appendSum(postOps);
        break;
      case 'linear':
        descriptors.appendElement(postOps, 'linear', operation.scale, operation.shift);
        break;
      case 'inverse root':
        // Powers of 1/2 and −1 have code of their own; others are computed value by value.
        descriptors.appendElement(postOps, 'sqrt', 0, 0);
        descriptors.appendElement(postOps, 'power', 1, -1);
        break;
      default: {
        const status = bindings.dnnl_post_ops_append_binary(postOps, BinaryAlgorithm[operation.kind], operation.operand);
        requireSuccess(status, 'dnnl_post_ops_append_binary');
      }
    }
  }

  #kernel(
    descriptor: DnnlPrimitiveDescriptor,
    slots: readonly number[],
    memoryDescriptors: readonly DnnlMemoryDescriptor[],
    after: readonly PostOperation[] = [],
  ): OneDnnKernel {
    const { bindings } = this.#library;
    const primitive: DnnlPrimitive = created('dnnl_primitive_create', bindings.dnnl_primitive_create, descriptor);
    this.#primitives.push(primitive);
    const implementation = this.#implementationOf(descriptor);
    bindings.dnnl_primitive_desc_destroy(descriptor);
    const further = this.#operandsOf(after);
    const memories = [...memoryDescriptors, ...further.map(({ operand }) => operand)].map((memory) => this.#memory(memory));
    const allSlots = [...slots, ...further.map(({ slot }) => slot)];
    // `dnnl_exec_arg_t[]`: an int, four bytes of padding, and a pointer each.
    const args = BigInt64Array.from(allSlots.flatMap((slot, index) => [BigInt(slot), memories[index]!]));
    const { dnnl_memory_set_data_handle: setAddress, dnnl_primitive_execute: execute } = bindings;
    // Most addresses are those of the last run.
    const current = new Array<bigint | undefined>(memories.length);
    const run = (...addresses: bigint[]) => {
      for (let index = 0; index < memories.length; index++) {
        const address = addresses[index]!;
        if (address === current[index]) continue;
        setAddress(memories[index]!, address);
        current[index] = address;
      }
      const status = execute(primitive, this.#stream, allSlots.length, args);
      if (status !== 0) throw new CartridgesError('ENGINE_FAILURE', `oneDNN: ${implementation} failed with status ${status}`);
    };
    return { run, implementation };
  }

  /** The operands of post operations, and the slot that oneDNN gives to each by its place among all post operations. */
  #operandsOf(after: readonly PostOperation[]): { operand: DnnlMemoryDescriptor; slot: number }[] {
    const { postOperationBase } = this.#library.descriptors;
    let place = 0;
    return after.flatMap((operation) => {
      place += operation.kind === 'inverse root' ? 2 : 1;
      return 'operand' in operation ? [{ operand: operation.operand, slot: (postOperationBase * place) | Argument.SRC_1 }] : [];
    });
  }

  #memory(descriptor: DnnlMemoryDescriptor): DnnlMemory {
    const { bindings } = this.#library;
    const memory: DnnlMemory = created('dnnl_memory_create', bindings.dnnl_memory_create, descriptor, this.#engine, null);
    this.#memories.push(memory);
    return memory;
  }

  #implementationOf(descriptor: DnnlPrimitiveDescriptor): string {
    const result: [unknown] = [null];
    const status = this.#library.bindings.dnnl_primitive_desc_query(descriptor, QUERY_IMPLEMENTATION, 0, result);
    requireSuccess(status, 'dnnl_primitive_desc_query');
    return String(result[0]);
  }
}
