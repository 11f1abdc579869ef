import { floatsAt } from '../../tensor/native-memory.js';
import type { Kernel, LinearKernel } from '../../tensor/products/products.js';
import { FeedForward } from './feed-forward.js';
import { Norms } from './norms.js';
import type { Cast, ReplicaContext } from './replica-context.js';
import {
  deriveLogSumExps,
  type PickedLogits,
  pickLogits,
  type SparseTargets,
  sparseLoss,
  subtractShares,
  sumOpenRows,
} from './sparse-loss.js';

/**
 * The end of the model for up to `rows` supervised rows at a time: the feed-forward part of the last layer, the final norm, the
 * output and the loss, and the way back. The rows lie in `output.rows`, their gradient is left in `output.rowGradient`.
 */
export class SupervisedChunk {
  readonly rows: number;
  readonly #context: ReplicaContext;
  readonly #norms: Norms;
  readonly #feedForward: FeedForward;
  readonly #head: LinearKernel;
  readonly #headBackward: LinearKernel;
  readonly #softmax: Kernel;
  readonly #castLogits: Cast;
  readonly #logits: Float32Array;
  readonly #headGradient: Float32Array;
  readonly #picked: PickedLogits;
  readonly #weightSums: Float32Array;

  constructor(context: ReplicaContext, rows: number) {
    const { model, products, shape } = context;
    const { embedding, vocabularySize } = model.config;
    const { output } = context.memory;
    this.rows = rows;
    this.#context = context;
    this.#norms = new Norms(context, rows);
    this.#feedForward = new FeedForward(context, rows, output.feedForward);
    this.#head = products.linear(model.shapes.head, rows);
    this.#headBackward = products.linearBackward(model.shapes.head, rows);
    this.#softmax = products.softmax(rows, vocabularySize);
    this.#castLogits = context.cast(rows * vocabularySize);
    this.#logits = floatsAt(output.logits, rows * vocabularySize);
    this.#headGradient = floatsAt(output.gradient, rows * embedding);
    this.#picked = { entries: new Float32Array(rows * shape.entriesPerRow), logSumExps: new Float64Array(rows) };
    this.#weightSums = new Float32Array(rows);
  }

  /** The loss of the rows. Leaves probabilities where the logits were. */
  forward(targets: SparseTargets): number {
    const { memory, model } = this.#context;
    const { output } = memory;
    const { vocabularySize } = model.config;
    const layer = model.layers.at(-1)!;
    const { rows, branch, finalRows, normed } = output;
    this.#norms.norm(rows, layer.vectors.feedForwardNorm!, output.rowFactors, normed);
    this.#feedForward.forward(layer, normed, output.gate, output.up, branch);
    this.#norms.addAndNorm(rows, branch, finalRows, model.outputNorm, output.finalFactors, normed);
    this.#computeLogits();
    pickLogits(this.#logits, vocabularySize, targets, this.#picked);
    this.#softmax(output.logits, output.logits);
    if (!deriveLogSumExps(this.#logits, vocabularySize, targets, this.#picked)) this.#sumOpenRows(targets);
    return sparseLoss(targets, this.#picked);
  }

  #computeLogits(): void {
    const { memory, model } = this.#context;
    const { output } = memory;
    this.#head(model.head, output.normed, output.logits);
  }

  /** For rows that the model finds very unlikely: softmax has overwritten their logits, which are computed once more. */
  #sumOpenRows(targets: SparseTargets): void {
    const { output } = this.#context.memory;
    this.#computeLogits();
    sumOpenRows(this.#logits, this.#context.model.config.vocabularySize, targets, this.#picked);
    this.#softmax(output.logits, output.logits);
  }

  /** After {@link forward}: the gradient of the rows. */
  backward(targets: SparseTargets): void {
    const { memory, model } = this.#context;
    const { output } = memory;
    const layer = model.layers.at(-1)!;
    subtractShares(this.#logits, model.config.vocabularySize, targets, this.#weightSums);
    this.#headBackward(model.head, this.#castLogits(output.logits, output.logitOperand), output.gradient);
    this.#scaleRows(targets.rows);
    const { gradient, finalGradient, rows, rowFactors, rowGradient } = output;
    this.#norms.normBackward(gradient, model.outputNorm, output.finalRows, output.finalFactors, finalGradient);
    this.#feedForward.backward(layer, finalGradient, output.gate, output.up, gradient);
    this.#norms.normBackwardAndAdd(gradient, layer.vectors.feedForwardNorm!, rows, rowFactors, finalGradient, rowGradient);
  }

  #scaleRows(rows: number): void {
    const { embedding } = this.#context.model.config;
    for (let row = 0; row < rows; row++) {
      const factor = this.#weightSums[row]!;
      for (let i = row * embedding; i < (row + 1) * embedding; i++) this.#headGradient[i]! *= factor;
    }
  }
}
