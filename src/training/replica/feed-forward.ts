import type { LinearKernel } from '../../tensor/products/products.js';
import { GatedUnits } from './gated-units.js';
import type { Cast, ReplicaContext } from './replica-context.js';
import type { FeedForwardMemory } from './replica-memory.js';
import type { ReplicaLayer } from './replica-model.js';

/** down(swish(gate(h)) · up(h)) over a fixed number of rows. */
export class FeedForward {
  readonly #memory: FeedForwardMemory;
  readonly #gate: LinearKernel;
  readonly #up: LinearKernel;
  readonly #down: LinearKernel;
  readonly #gateBackward: LinearKernel;
  readonly #upBackward: LinearKernel;
  readonly #downBackward: LinearKernel;
  readonly #units: GatedUnits;
  readonly #castHidden: Cast;

  constructor(context: ReplicaContext, rows: number, memory: FeedForwardMemory) {
    const { products, model } = context;
    const { gate, up, down } = model.shapes;
    const { embedding, feedForward } = model.config;
    this.#memory = memory;
    this.#gate = products.linear(gate, rows);
    this.#up = products.linear(up, rows);
    this.#down = products.linear(down, rows);
    this.#downBackward = products.linearBackward(down, rows);
    this.#gateBackward = products.linearBackward(gate, rows);
    this.#upBackward = products.linearBackward(up, rows, true);
    this.#units = new GatedUnits(context, rows * feedForward, memory);
    this.#castHidden = context.cast(rows * embedding);
  }

  /** From hidden values as an operand to `result` in f32; `gate` and `up` are kept for the backward pass. */
  forward(layer: ReplicaLayer, hidden: bigint, gate: bigint, up: bigint, result: bigint): void {
    this.widen(layer, hidden, gate, up);
    this.#units.forward(gate, up);
    this.#down(layer.matrices.down, this.#memory.operand, result);
  }

  /** The part of the forward pass that the backward pass needs. */
  widen({ matrices }: ReplicaLayer, hidden: bigint, gate: bigint, up: bigint): void {
    this.#gate(matrices.gate, hidden, gate);
    this.#up(matrices.up, hidden, up);
  }

  /** From the gradient of the result to that of the hidden values, both f32. */
  backward({ matrices }: ReplicaLayer, resultGradient: bigint, gate: bigint, up: bigint, hiddenGradient: bigint): void {
    const { productGradient, operand, secondOperand } = this.#memory;
    this.#downBackward(matrices.down, this.#castHidden(resultGradient, operand), productGradient);
    this.#units.backward(gate, up);
    this.#gateBackward(matrices.gate, operand, hiddenGradient);
    this.#upBackward(matrices.up, secondOperand, hiddenGradient);
  }
}
