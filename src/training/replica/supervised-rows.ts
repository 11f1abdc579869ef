import { floatsAt } from '../../tensor/native-memory.js';
import { chunkSizes, fittingChunk } from './chunk-sizes.js';
import type { ReplicaContext } from './replica-context.js';
import type { ReplicaUnit } from './replica-unit.js';
import type { SparseTargets } from './sparse-loss.js';
import { SupervisedChunk } from './supervised-chunk.js';

/** The end of the model for the supervised rows of a unit alone, a chunk of them at a time. Logits exist for one chunk. */
export class SupervisedRows {
  readonly #context: ReplicaContext;
  /** From the smallest up, in the same memory. */
  readonly #chunks: readonly SupervisedChunk[];
  readonly #hidden: Float32Array;
  readonly #gradient: Float32Array;
  readonly #rows: Float32Array;
  readonly #rowGradient: Float32Array;

  constructor(context: ReplicaContext) {
    const { model, shape, memory } = context;
    const { embedding, layers } = model.config;
    const { output } = memory;
    this.#context = context;
    this.#chunks = chunkSizes(shape.chunkRows).map((rows) => new SupervisedChunk(context, rows));
    this.#hidden = floatsAt(memory.layers[layers - 1]!.afterAttention, shape.tokens * embedding);
    this.#gradient = floatsAt(memory.attentionGradient, shape.tokens * embedding);
    this.#rows = floatsAt(output.rows, shape.chunkRows * embedding);
    this.#rowGradient = floatsAt(output.rowGradient, shape.chunkRows * embedding);
  }

  /**
   * The loss of a unit, from the values that the last layer has after its attention. With `wantsGradient` the gradient of
   * these values is left in `attentionGradient`.
   */
  run(unit: ReplicaUnit, wantsGradient: boolean): number {
    if (wantsGradient) this.#gradient.fill(0);
    let loss = 0;
    for (let first = 0; first < unit.rows.length; ) {
      const chunk = fittingChunk(this.#chunks, unit.rows.length - first);
      const rows = unit.rows.subarray(first, first + chunk.rows);
      const targets = targetsOf(unit, first, rows.length, this.#context.shape.entriesPerRow);
      this.#gather(rows);
      loss += chunk.forward(targets);
      if (wantsGradient) {
        chunk.backward(targets);
        this.#scatter(rows);
      }
      first += rows.length;
    }
    return loss;
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
