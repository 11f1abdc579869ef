import { floatsAt, integersAt } from '../../tensor/native-memory.js';
import type { Kernel, LinearKernel } from '../../tensor/products/products.js';
import { FeedForward } from './feed-forward.js';
import { createNorms, type Norms } from './norms.js';
import type { Cast, ReplicaContext } from './replica-context.js';
import type { ReplicaUnit } from './replica-unit.js';
import { pickLogits, type SparseTargets, sparseLoss, subtractShares } from './sparse-loss.js';

/**
 * The end of the model for supervised rows alone, a chunk of them at a time: the feed-forward part of the last layer, the final
 * norm, the output and the loss, and the way back. Logits exist for one chunk.
 */
export class SupervisedRows {
  readonly #context: ReplicaContext;
  readonly #norms: Norms;
  readonly #feedForward: FeedForward;
  readonly #head: LinearKernel;
  readonly #headBackward: LinearKernel;
  readonly #softmax: Kernel;
  readonly #largest: Kernel;
  readonly #castHidden: Cast;
  readonly #castLogits: Cast;
  readonly #hidden: Float32Array;
  readonly #rows: Float32Array;
  readonly #rowGradient: Float32Array;
  readonly #headGradient: Float32Array;
  readonly #logits: Float32Array;
  readonly #largestClasses: Int32Array;
  readonly #gradient: Float32Array;

  constructor(context: ReplicaContext) {
    const { model, products, shape, memory } = context;
    const { embedding, vocabularySize, layers } = model.config;
    const { chunkRows } = shape;
    const { output } = memory;
    this.#context = context;
    this.#norms = createNorms(context, chunkRows);
    this.#feedForward = new FeedForward(context, chunkRows, output.feedForward);
    this.#head = products.linear(model.shapes.head, chunkRows);
    this.#headBackward = products.linearBackward(model.shapes.head, chunkRows);
    this.#softmax = products.softmax(chunkRows, vocabularySize);
    this.#largest = context.graph((g) => {
      g.result(1, g.ggml.ggml_argmax(g.context, g.input(0, [vocabularySize, chunkRows])));
    });
    this.#castHidden = context.cast(chunkRows * embedding);
    this.#castLogits = context.cast(chunkRows * vocabularySize);
    this.#hidden = floatsAt(memory.layers[layers - 1]!.afterAttention, shape.tokens * embedding);
    this.#gradient = floatsAt(memory.attentionGradient, shape.tokens * embedding);
    this.#rows = floatsAt(output.rows, chunkRows * embedding);
    this.#rowGradient = floatsAt(output.rowGradient, chunkRows * embedding);
    this.#headGradient = floatsAt(output.gradient, chunkRows * embedding);
    this.#logits = floatsAt(output.logits, chunkRows * vocabularySize);
    this.#largestClasses = integersAt(output.largest, chunkRows);
  }

  /**
   * The loss of a unit, from the values that the last layer has after its attention. With `wantsGradient` the gradient of
   * these values is left in `attentionGradient`.
   */
  run(unit: ReplicaUnit, wantsGradient: boolean): number {
    const { chunkRows } = this.#context.shape;
    if (wantsGradient) this.#gradient.fill(0);
    let loss = 0;
    for (let first = 0; first < unit.rows.length; first += chunkRows) {
      const rows = unit.rows.subarray(first, first + chunkRows);
      const targets = targetsOf(unit, first, rows.length, this.#context.shape.entriesPerRow);
      this.#gather(rows);
      this.#forward();
      loss += this.#lossOf(targets);
      if (!wantsGradient) continue;
      this.#backward(targets);
      this.#scatter(rows);
    }
    return loss;
  }

  #forward(): void {
    const { memory, model } = this.#context;
    const { output } = memory;
    const layer = model.layers.at(-1)!;
    this.#norms.norm(output.rows, layer.vectors.feedForwardNorm!, output.hidden);
    const hidden = this.#castHidden(output.hidden, output.hiddenOperand);
    this.#feedForward.forward(layer, hidden, output.gate, output.up, output.branch);
    this.#norms.addAndNorm(output.rows, output.branch, model.outputNorm, output.finalRows, output.hidden);
    this.#head(model.head, this.#castHidden(output.hidden, output.hiddenOperand), output.logits);
  }

  /** Leaves probabilities where the logits were. */
  #lossOf(targets: SparseTargets): number {
    const { output } = this.#context.memory;
    const { vocabularySize } = this.#context.model.config;
    this.#largest(output.logits, output.largest);
    const picked = pickLogits(this.#logits, vocabularySize, targets, this.#largestClasses);
    this.#softmax(output.logits, output.logits);
    return sparseLoss(this.#logits, vocabularySize, targets, picked);
  }

  #backward(targets: SparseTargets): void {
    const { memory, model } = this.#context;
    const { output } = memory;
    const layer = model.layers.at(-1)!;
    const sums = subtractShares(this.#logits, model.config.vocabularySize, targets);
    this.#headBackward(model.head, this.#castLogits(output.logits, output.logitOperand), output.gradient);
    this.#scaleRows(sums);
    this.#norms.normBackward(output.gradient, model.outputNorm, output.finalRows, output.normScratch);
    this.#feedForward.backward(layer, output.normScratch, output.gate, output.up, output.gradient);
    const norm = layer.vectors.feedForwardNorm!;
    this.#norms.normBackwardAndAdd(output.gradient, norm, output.rows, output.normScratch, output.rowGradient);
  }

  #scaleRows(factors: Float32Array): void {
    const { embedding } = this.#context.model.config;
    factors.forEach((factor, row) => {
      for (let i = row * embedding; i < (row + 1) * embedding; i++) this.#headGradient[i]! *= factor;
    });
  }

  #gather(rows: Int32Array): void {
    const { embedding } = this.#context.model.config;
    rows.forEach((row, index) => {
      this.#rows.set(this.#hidden.subarray(row * embedding, (row + 1) * embedding), index * embedding);
    });
  }

  #scatter(rows: Int32Array): void {
    const { embedding } = this.#context.model.config;
    rows.forEach((row, index) => {
      this.#gradient.set(this.#rowGradient.subarray(index * embedding, (index + 1) * embedding), row * embedding);
    });
  }
}

function targetsOf(unit: ReplicaUnit, first: number, rows: number, entriesPerRow: number): SparseTargets {
  const range = [first * entriesPerRow, (first + rows) * entriesPerRow] as const;
  return { rows, entriesPerRow, ids: unit.tokenIds.subarray(...range), weights: unit.weights.subarray(...range) };
}
