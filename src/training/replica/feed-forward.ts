import type { Kernel, LinearKernel } from '../../tensor/products/products.js';
import type { Cast, ReplicaContext } from './replica-context.js';
import type { FeedForwardMemory } from './replica-memory.js';
import type { ReplicaLayer } from './replica-model.js';

/** down(silu(gate(h)) · up(h)) over a fixed number of rows. */
export class FeedForward {
  readonly #memory: FeedForwardMemory;
  readonly #gate: LinearKernel;
  readonly #up: LinearKernel;
  readonly #down: LinearKernel;
  readonly #gateBackward: LinearKernel;
  readonly #upBackward: LinearKernel;
  readonly #downBackward: LinearKernel;
  readonly #swiglu: Kernel;
  readonly #multiply: Kernel;
  readonly #swish: Kernel;
  readonly #swishBackward: Kernel;
  readonly #castHidden: Cast;
  readonly #castInner: Cast;

  constructor(context: ReplicaContext, rows: number, memory: FeedForwardMemory) {
    const { products, model } = context;
    const { gate, up, down } = model.shapes;
    const { embedding, feedForward } = model.config;
    const inner = rows * feedForward;
    this.#memory = memory;
    this.#gate = products.linear(gate, rows);
    this.#up = products.linear(up, rows);
    this.#down = products.linear(down, rows);
    this.#downBackward = products.linearBackward(down, rows);
    this.#gateBackward = products.linearBackward(gate, rows);
    this.#upBackward = products.linearBackward(up, rows, true);
    this.#swiglu = context.graph((g) => {
      g.result(2, g.ggml.ggml_swiglu_split(g.context, g.input(0, [inner]), g.input(1, [inner])));
    });
    this.#multiply = products.multiply(inner);
    this.#swish = products.swish(inner);
    this.#swishBackward = products.swishBackward(inner);
    this.#castHidden = context.cast(rows * embedding);
    this.#castInner = context.cast(inner);
  }

  /** From hidden values as an operand to `result` in f32; `gate` and `up` are kept for the backward pass. */
  forward(layer: ReplicaLayer, hidden: bigint, gate: bigint, up: bigint, result: bigint): void {
    const { product, operand } = this.#memory;
    this.widen(layer, hidden, gate, up);
    this.#swiglu(gate, up, product);
    this.#down(layer.matrices.down, this.#castInner(product, operand), result);
  }

  /** The part of the forward pass that the backward pass needs. */
  widen({ matrices }: ReplicaLayer, hidden: bigint, gate: bigint, up: bigint): void {
    this.#gate(matrices.gate, hidden, gate);
    this.#up(matrices.up, hidden, up);
  }

  /** From the gradient of the result to that of the hidden values, both f32. */
  backward({ matrices }: ReplicaLayer, resultGradient: bigint, gate: bigint, up: bigint, hiddenGradient: bigint): void {
    const { product, productGradient, gateGradient, upGradient, operand, secondOperand } = this.#memory;
    this.#downBackward(matrices.down, this.#castHidden(resultGradient, operand), productGradient);
    this.#multiply(productGradient, up, product);
    this.#swishBackward(gate, product, gateGradient);
    this.#swish(gate, product);
    this.#multiply(productGradient, product, upGradient);
    this.#gateBackward(matrices.gate, this.#castInner(gateGradient, operand), hiddenGradient);
    this.#upBackward(matrices.up, this.#castInner(upGradient, secondOperand), hiddenGradient);
  }
}
