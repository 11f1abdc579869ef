import { floatsAt, integersAt } from '../../tensor/native-memory.js';
import { dense, type Kernel, type LinearKernel } from '../../tensor/products/products.js';
import { Attention } from './attention.js';
import type { AttentionWork } from './attention-work.js';
import { FeedForward } from './feed-forward.js';
import type { PrefixMemory } from './joint-keys.js';
import { MixedDots } from './mixed-dots.js';
import { Norms } from './norms.js';
import type { Cast, ReplicaContext } from './replica-context.js';
import type { LayerMemory } from './replica-memory.js';
import type { ReplicaLayer } from './replica-model.js';
import { type ReplicaUnit, tilesOf } from './replica-unit.js';
import { createBias, createRotation, type Rotation } from './rotation.js';
import { SupervisedRows } from './supervised-rows.js';

/** Stands for a vector that the architecture does not have. */
const ABSENT = 0n;

/**
 * The training step of one worker: a unit of conversations forward and backward through the whole model in one thread, without
 * locks. Everything that is computed with is made once for the shape of units; a run makes no more than a few lists.
 */
export class Replica {
  readonly #context: ReplicaContext;
  readonly #prefix: readonly PrefixMemory[];
  readonly #norms: Norms;
  readonly #feedForward: FeedForward;
  readonly #attention: Attention;
  readonly #mixedDots: MixedDots;
  readonly #supervised: SupervisedRows;
  readonly #queryRotation: Rotation;
  readonly #keyRotation: Rotation;
  readonly #valueBias: Kernel | undefined;
  readonly #projections: ReturnType<typeof createProjections>;
  readonly #copies: ReturnType<typeof createHeadCopies>;
  readonly #castHidden: Cast;
  readonly #castQueries: Cast;
  readonly #castKeys: Cast;
  readonly #input: Float32Array;
  readonly #positions: Int32Array;

  /** `prefix` says for each layer where the cartridge's rows lie and where their gradients are added up. */
  constructor(context: ReplicaContext, prefix: readonly PrefixMemory[]) {
    const { shape, model, memory } = context;
    const { heads, kvHeads, headDimension: D, embedding, traits } = model.config;
    this.#context = context;
    this.#prefix = prefix;
    this.#norms = new Norms(context, shape.tokens);
    this.#feedForward = new FeedForward(context, shape.tokens, memory.feedForward);
    this.#attention = new Attention(context.of('attention'));
    this.#mixedDots = new MixedDots(context.of('attention'));
    this.#supervised = new SupervisedRows(context);
    this.#queryRotation = createRotation(context, heads, 1 / Math.sqrt(D));
    this.#keyRotation = createRotation(context, kvHeads, 1);
    this.#valueBias = traits.attentionBias ? createBias(context, kvHeads * D) : undefined;
    this.#projections = createProjections(context);
    this.#copies = createHeadCopies(context);
    this.#castHidden = context.cast(shape.tokens * embedding);
    this.#castQueries = context.cast(shape.tokens * heads * D);
    this.#castKeys = context.cast(shape.tokens * kvHeads * D);
    this.#input = floatsAt(memory.layers[0]!.input, shape.tokens * embedding);
    this.#positions = integersAt(memory.positions, shape.tokens);
  }

  /**
   * Runs a unit whose tokens have these embeddings, f32 [tokens, embedding]. Returns Σ −weight · log-probability, and with
   * `wantsGradient` adds the gradient of the cartridge's rows.
   */
  run(unit: ReplicaUnit, embeddings: Float32Array, wantsGradient: boolean): number {
    const work = this.#attention.workOn(tilesOf(unit, this.#context.shape), unit.starts);
    this.#input.set(embeddings);
    this.#positions.set(unit.positions);
    const last = this.#context.model.layers.length - 1;
    for (let index = 0; index <= last; index++) {
      this.#normInput(index);
      this.#attentionForward(index, work);
      this.#normAfterAttention(index);
      if (index < last) this.#feedForwardForward(index);
    }
    const loss = this.#supervised.run(unit, wantsGradient);
    for (let index = last; wantsGradient && index >= 0; index--) {
      // Of the layers that share their memory, the last one's activations are the newest.
      if (index < this.#context.shape.recomputedLayers - 1) this.#recompute(index, work);
      if (index < last) this.#feedForwardBackward(index);
      this.#attentionBackward(index, work);
    }
    return loss;
  }

  dispose(): void {
    this.#context.dispose();
  }

  /** The first norm of a layer, of what the layer before it left in parts. */
  #normInput(index: number): void {
    const { memory, model } = this.#context;
    const { input, inputFactors } = memory.layers[index]!;
    const weight = model.layers[index]!.vectors.attentionNorm!;
    if (index === 0) this.#norms.norm(input, weight, inputFactors, memory.normed);
    else {
      const { afterAttention } = memory.layers[index - 1]!;
      this.#norms.addAndNorm(afterAttention, memory.branch, input, weight, inputFactors, memory.normed);
    }
  }

  /** From a layer's normed input to what is added to it, in `branch`. */
  #attentionForward(index: number, work: AttentionWork): void {
    const { memory, model } = this.#context;
    const [layer, { matrices }] = [memory.layers[index]!, model.layers[index]!];
    this.#project(layer, model.layers[index]!);
    this.#attention.forward(index, this.#prefix[index]!, work);
    this.#copies.joinHeads(memory.mixed, layer.joined);
    this.#projections.output(matrices.attentionOutput, layer.joined, memory.branch);
  }

  /** The second norm of a layer. */
  #normAfterAttention(index: number): void {
    const { memory, model } = this.#context;
    const { input, afterAttention, afterAttentionFactors } = memory.layers[index]!;
    const weight = model.layers[index]!.vectors.feedForwardNorm!;
    this.#norms.addAndNorm(input, memory.branch, afterAttention, weight, afterAttentionFactors, memory.normed);
  }

  /** Queries, keys and values of a layer as the attention takes them. */
  #project(layer: LayerMemory, { matrices, vectors }: ReplicaLayer): void {
    const { memory, model } = this.#context;
    const factors = model.rope.factors ?? ABSENT;
    this.#projections.query(matrices.query, memory.normed, layer.rawQueries);
    this.#projections.key(matrices.key, memory.normed, layer.rawKeys);
    this.#projections.value(matrices.value, memory.normed, memory.rawValues);
    const rotate = (rotation: Rotation, raw: bigint, rotated: bigint, bias: bigint | undefined, norm: bigint | undefined) =>
      rotation.forward(raw, rotated, memory.positions, factors, bias ?? ABSENT, norm ?? ABSENT);
    rotate(this.#queryRotation, layer.rawQueries, memory.rotatedQueries, vectors.queryBias, vectors.queryNorm);
    rotate(this.#keyRotation, layer.rawKeys, memory.rotatedKeys, vectors.keyBias, vectors.keyNorm);
    this.#valueBias?.(memory.rawValues, vectors.valueBias!);
    this.#copies.splitQueries(memory.rotatedQueries, layer.queries);
    this.#copies.splitKeys(memory.rotatedKeys, layer.keys);
    this.#copies.splitKeys(memory.rawValues, layer.values);
  }

  /** From a layer's normed values after attention to what is added to them, in `branch`. */
  #feedForwardForward(index: number): void {
    const { memory, model } = this.#context;
    const { gate, up } = memory.layers[index]!;
    this.#feedForward.forward(model.layers[index]!, memory.normed, gate, up, memory.branch);
  }

  /** Computes once more, from a layer's input, what its backward pass needs. */
  #recompute(index: number, work: AttentionWork): void {
    const { memory, model } = this.#context;
    const { input, inputFactors, gate, up } = memory.layers[index]!;
    this.#norms.norm(input, model.layers[index]!.vectors.attentionNorm!, inputFactors, memory.normed);
    this.#attentionForward(index, work);
    this.#normAfterAttention(index);
    this.#feedForward.widen(model.layers[index]!, memory.normed, gate, up);
  }

  /** From the gradient of a layer's result to that of its values after attention. */
  #feedForwardBackward(index: number): void {
    const { memory, model } = this.#context;
    const layer = memory.layers[index]!;
    this.#feedForward.backward(model.layers[index]!, memory.gradient, layer.gate, layer.up, memory.hidden);
    const { afterAttention, afterAttentionFactors } = layer;
    const { hidden, gradient, attentionGradient } = memory;
    const norm = model.layers[index]!.vectors.feedForwardNorm!;
    this.#norms.normBackwardAndAdd(hidden, norm, afterAttention, afterAttentionFactors, gradient, attentionGradient);
  }

  /** From the gradient of a layer's values after attention to that of its input, and to the cartridge's. */
  #attentionBackward(index: number, work: AttentionWork): void {
    const { memory, model } = this.#context;
    const [layer, { matrices, vectors }] = [memory.layers[index]!, model.layers[index]!];
    const gradient = this.#castHidden(memory.attentionGradient, memory.operand);
    this.#projections.outputBackward(matrices.attentionOutput, gradient, memory.rotatedQueries);
    this.#mixedDots.run(memory.rotatedQueries, layer.joined);
    this.#copies.splitQueries(memory.rotatedQueries, memory.mixedGradients);
    this.#attention.backward(index, this.#prefix[index]!, work, index > 0);
    if (index === 0) return;
    this.#projectBackward(layer, model.layers[index]!);
    const { input, inputFactors } = layer;
    const { hidden, attentionGradient } = memory;
    this.#norms.normBackwardAndAdd(hidden, vectors.attentionNorm!, input, inputFactors, attentionGradient, memory.gradient);
  }

  /** From the gradients of queries, keys and values to that of the normed input, in `hidden`. */
  #projectBackward(layer: LayerMemory, { matrices, vectors }: ReplicaLayer): void {
    const { memory, model } = this.#context;
    const factors = model.rope.factors ?? ABSENT;
    const rotateBack = (rotation: Rotation, gradient: bigint, raw: bigint, norm: bigint | undefined, result: bigint) =>
      rotation.backward(gradient, result, memory.positions, factors, raw, norm ?? ABSENT);
    this.#copies.joinQueryGradients(memory.queryGradients, memory.rotatedQueries);
    this.#copies.joinKeyGradients(memory.keyGradients, memory.rotatedKeys);
    rotateBack(this.#queryRotation, memory.rotatedQueries, layer.rawQueries, vectors.queryNorm, memory.mixed);
    rotateBack(this.#keyRotation, memory.rotatedKeys, layer.rawKeys, vectors.keyNorm, memory.rawValues);
    this.#projections.queryBackward(matrices.query, this.#castQueries(memory.mixed, memory.operand), memory.hidden);
    this.#projections.keyBackward(matrices.key, this.#castKeys(memory.rawValues, memory.secondOperand), memory.hidden);
    this.#copies.joinKeyGradients(memory.valueGradients, memory.rawValues);
    this.#projections.valueBackward(matrices.value, this.#castKeys(memory.rawValues, memory.secondOperand), memory.hidden);
  }
}

function createProjections({ products, model, shape }: ReplicaContext) {
  const { query, key, value, attentionOutput } = model.shapes;
  const forward = (matrix: typeof query): LinearKernel => products.linear(matrix, shape.tokens);
  const backward = (matrix: typeof query, accumulate: boolean) => products.linearBackward(matrix, shape.tokens, accumulate);
  return {
    query: forward(query),
    key: forward(key),
    value: forward(value),
    output: forward(attentionOutput),
    queryBackward: backward(query, false),
    keyBackward: backward(key, true),
    valueBackward: backward(value, true),
    outputBackward: backward(attentionOutput, false),
  };
}

/** Between values by token, as products with matrices give them, and values by key/value head, as attention takes them. */
function createHeadCopies({ products, model, shape }: ReplicaContext) {
  const { heads, kvHeads, headDimension: D } = model.config;
  const { tokens } = shape;
  const { operandType: type } = products;
  const group = heads / kvHeads;
  const layouts = (members: number) => {
    const dimensions = [kvHeads, tokens, members, D];
    const byToken = { dimensions, strides: [members * D, kvHeads * members * D, D, 1] };
    return { byToken, byHead: dense(dimensions), byHeadOperand: dense(dimensions, type), byTokenOperand: { ...byToken, type } };
  };
  const [queries, keys] = [layouts(group), layouts(1)];
  return {
    splitQueries: products.copy(queries.byToken, queries.byHeadOperand),
    splitKeys: products.copy(keys.byToken, keys.byHeadOperand),
    joinHeads: products.copy(queries.byHead, queries.byTokenOperand),
    joinQueryGradients: products.copy(queries.byHead, queries.byToken),
    joinKeyGradients: products.copy(keys.byHead, keys.byToken),
  };
}
