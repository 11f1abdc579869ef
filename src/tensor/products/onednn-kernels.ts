import { type BinaryOperation, DataType, type DnnlMemoryDescriptor } from '../../native/onednn/descriptors.js';
import type { OneDnnLibrary } from '../../native/onednn/library.js';
import { OneDnn, type OneDnnKernel, type PostOperation } from '../../native/onednn/onednn.js';
import { addressedFloats } from '../native-memory.js';
import { isEmpty, type Kernel, type Layout } from './products.js';

const DATA_TYPES = { f32: DataType.F32, bf16: DataType.BF16 } as const;

/** What is done to each value of a result before it is stored; the addresses of operands follow the kernel's own. */
export type Afterwards = PostOperation<Layout>;

/** oneDNN's primitives over layouts, and the names of the code behind them. Without values there is nothing to run. */
export class OneDnnKernels {
  /** For example `matmul brg:avx2`. */
  readonly implementations = new Set<string>();
  readonly #oneDnn: OneDnn;
  readonly #constants: Float32Array[] = [];

  constructor(library: OneDnnLibrary) {
    this.#oneDnn = new OneDnn(library);
  }

  /** Addresses: a, b, c = a · b. */
  matmul(a: Layout, b: Layout, c: Layout, after: readonly Afterwards[] = []): Kernel {
    const create = () =>
      this.#oneDnn.matmul(this.#describe(a), this.#describe(b), this.#describe(c), this.#describeOperands(after));
    return this.#kernel('matmul', c, create);
  }

  /** Addresses: a, b, c = a ∘ b. Dimensions of 1 in b count for all. */
  binary(kind: BinaryOperation, a: Layout, b: Layout, c: Layout, after: readonly Afterwards[] = []): Kernel {
    const create = () =>
      this.#oneDnn.binary(kind, this.#describe(a), this.#describe(b), this.#describe(c), this.#describeOperands(after));
    return this.#kernel(kind, c, create);
  }

  /** Addresses: source, target. */
  copy(source: Layout, target: Layout): Kernel {
    return this.#kernel('copy', source, () => this.#oneDnn.reorder(this.#describe(source), this.#describe(target)));
  }

  /** Over the last dimension. Addresses: x, y. */
  softmax(layout: Layout): Kernel {
    const axis = layout.dimensions.length - 1;
    return this.#kernel('softmax', layout, () => this.#oneDnn.softmax(this.#describe(layout), this.#describe(layout), axis));
  }

  /** Addresses: x, and the result: 1 / (1 + e⁻ˣ) or eˣ. */
  element(operation: 'logistic' | 'exp', layout: Layout): Kernel {
    return this.#kernel(operation, layout, () => this.#oneDnn.element(operation, this.#describe(layout)));
  }

  /** The address of `count` ones, which stay as long as these kernels are there. */
  ones(count: number): bigint {
    const { values, address } = addressedFloats(count);
    this.#constants.push(values.fill(1));
    return address;
  }

  dispose(): void {
    this.#oneDnn.dispose();
  }

  #kernel(kind: string, layout: Layout, create: () => OneDnnKernel): Kernel {
    if (isEmpty(layout)) return () => {};
    const { run, implementation } = create();
    this.implementations.add(`${kind} ${implementation}`);
    return run;
  }

  #describe({ dimensions, strides, type = 'f32' }: Layout): DnnlMemoryDescriptor {
    return this.#oneDnn.describe(dimensions, strides, DATA_TYPES[type]);
  }

  #describeOperands(after: readonly Afterwards[]): PostOperation[] {
    return after.map((operation) =>
      'operand' in operation ? { ...operation, operand: this.#describe(operation.operand) } : operation,
    );
  }
}
