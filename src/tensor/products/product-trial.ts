import { CartridgesError } from '../../core/errors.js';
import { Random } from '../../core/random.js';
import { chooseDevice, createBackend } from '../../native/devices.js';
import type { Engine } from '../../native/engine.js';
import { GgmlType } from '../../native/ggml.js';
import { viewMemory } from '../../native/koffi.js';
import { blockSignals } from '../../native/signals.js';
import { quantize } from '../../native/tensor-types.js';
import type { GgmlThread } from '../ggml-thread.js';
import { floatsAt, NativeMemory } from '../native-memory.js';
import { spacedRowBytes, writeRows } from '../row-spacing.js';
import { measuredTokens } from '../speed-choice.js';
import { openProducts, type ProductsChoice, readsByColumn } from './open-products.js';
import { dense, type FrozenOperand, type FrozenShape, type LinearKernel, OPERAND_BYTES, type Products } from './products.js';

/** Types of frozen weights that a provider may multiply. */
export const WEIGHT_TYPES = { f32: GgmlType.F32, f16: GgmlType.F16, bf16: GgmlType.BF16 } as const;
export type WeightTypeName = keyof typeof WEIGHT_TYPES;

export interface ProductCandidate {
  products: ProductsChoice;
  weightType: WeightTypeName;
}

/** A provider with weights of one type, on one core. */
export interface ProviderSpeed extends ProductCandidate {
  /** Of a frozen linear layer, forward and backward together. */
  gigaflops: number;
  /** What the library says of the code behind it. */
  implementations: string[];
}

/** Of a value of the product, against plain arithmetic: bf16 rounds factors to eight bits. */
const LARGEST_ERROR = 0.05;
const CHECKED_OUTPUTS = 4;
/** Of activations in memory, in bytes. */
const ALIGNMENT = 64;

/** A linear layer of random weights by one provider, ready to be measured. */
export class ProductTrial {
  readonly #candidate: ProductCandidate;
  readonly #products: Products;
  readonly #forward: LinearKernel;
  readonly #backward: LinearKernel;
  readonly #weight: FrozenOperand;
  readonly #x: bigint;
  readonly #result: bigint;
  readonly #operations: number;
  /** Frees what the trial holds, what was made last first. */
  readonly #releases: (() => void)[] = [];
  #bestMilliseconds = Number.POSITIVE_INFINITY;

  /** Throws `ENGINE_FAILURE` when the provider cannot multiply this type, does it in reference code, or gets it wrong. */
  constructor(engine: Engine, candidate: ProductCandidate, inputs: number, outputs: number) {
    const tokens = measuredTokens(inputs, outputs);
    const activationCount = tokens * Math.max(inputs, outputs);
    const type = WEIGHT_TYPES[candidate.weightType];
    const rowSize = Number(engine.ggml.ggml_row_size(type, inputs));
    const rowBytes = readsByColumn(candidate.products) ? spacedRowBytes(rowSize) : undefined;
    const shape = { inputs, outputs, type, transposedType: type, rowBytes };
    const weightBytes = Math.ceil(((rowBytes ?? rowSize) * outputs) / ALIGNMENT) * ALIGNMENT;
    const activationBytes = activationCount * OPERAND_BYTES.f32;
    this.#candidate = candidate;
    this.#operations = 4 * inputs * outputs * tokens;
    try {
      const thread = this.#openThread(engine, weightBytes + 3 * activationBytes);
      const weight = thread.address;
      // A measurement reads the same values in both directions: their order does not change the speed.
      this.#weight = { address: weight, transposedAddress: weight };
      this.#x = weight + BigInt(weightBytes);
      this.#result = this.#x + BigInt(activationBytes);
      this.#products = openProducts(candidate.products, thread);
      this.#releases.push(() => this.#products.dispose());
      this.#forward = this.#products.linear(shape, tokens);
      this.#backward = this.#products.linearBackward(shape, tokens);
      this.#refuseReferenceCode();
      this.#refuseWrongProducts(engine, shape, activationCount);
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  measure(): void {
    const allowSignals = blockSignals();
    const start = performance.now();
    this.#forward(this.#weight, this.#x, this.#result);
    this.#backward(this.#weight, this.#x, this.#result);
    this.#bestMilliseconds = Math.min(this.#bestMilliseconds, performance.now() - start);
    allowSignals();
  }

  get speed(): ProviderSpeed {
    const gigaflops = this.#operations / this.#bestMilliseconds / 1e6;
    return { ...this.#candidate, gigaflops, implementations: [...this.#products.implementations] };
  }

  dispose(): void {
    for (const release of this.#releases.splice(0).reverse()) release();
  }

  /** A backend with one thread, and memory of its own. */
  #openThread(engine: Engine, bytes: number): GgmlThread & { address: bigint } {
    const { ggml } = engine;
    const backend = createBackend(engine, chooseDevice(engine, 'cpu'), 1);
    this.#releases.push(() => ggml.ggml_backend_free(backend));
    const memory = new NativeMemory(ggml, backend, bytes, 'a measurement');
    this.#releases.push(() => memory.dispose());
    return { ggml, backend, buffer: memory.buffer, address: memory.address };
  }

  #refuseReferenceCode(): void {
    const reference = [...this.#products.implementations].find((name) => /\bref\b/.test(name));
    if (reference === undefined) return;
    throw new CartridgesError('ENGINE_FAILURE', `${this.#products.name} has only reference code here (${reference})`);
  }

  /** Fills the factors, and compares the first outputs of the first token with plain arithmetic. */
  #refuseWrongProducts(engine: Engine, { inputs, outputs, rowBytes }: FrozenShape, activationCount: number): void {
    const random = new Random(1);
    const draw = (count: number) => Float32Array.from({ length: count }, () => random.uniform() - 0.5);
    const [weights, activations] = [draw(inputs * outputs), draw(activationCount)];
    const stored = quantize(engine, WEIGHT_TYPES[this.#candidate.weightType], weights, inputs);
    const weightMemory = viewMemory(this.#weight.address, (rowBytes ?? stored.length / outputs) * outputs);
    writeRows(new Uint8Array(weightMemory), stored, outputs, rowBytes);
    floatsAt(this.#result, activationCount).set(activations);
    this.#products.copy(dense([activationCount]), dense([activationCount], this.#products.operandType))(this.#result, this.#x);
    const allowSignals = blockSignals();
    this.#forward(this.#weight, this.#x, this.#result);
    allowSignals();
    floatsAt(this.#result, Math.min(CHECKED_OUTPUTS, outputs)).forEach((value, output) => {
      let expected = 0;
      for (let i = 0; i < inputs; i++) expected += weights[output * inputs + i]! * activations[i]!;
      if (Math.abs(value - expected) <= LARGEST_ERROR) return;
      throw new CartridgesError('ENGINE_FAILURE', `${this.#products.name} multiplies wrongly: ${value}, not ${expected}`);
    });
  }
}
