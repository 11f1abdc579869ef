import { CartridgesError } from '../core/errors.js';
import type { Ggml } from '../native/ggml.js';
import type { GgmlContext, GgmlTensor } from '../native/handles.js';
import { type Backend, MAX_GRAPH_NODES } from './backend.js';
import { frozenProduct } from './frozen-product.js';
import { describeShape, elementCount, type Shape, sameShape, shapeOf } from './shape.js';
import type { StoredTensor } from './tensor-store.js';

/**
 * A value of the graph. `backward` turns the gradient with respect to this value into gradients with respect to its parents
 * (null where a parent needs none); it only adds nodes to the graph.
 */
export interface Variable {
  readonly handle: GgmlTensor;
  readonly shape: Shape;
  readonly requiresGradient: boolean;
  readonly parents: readonly Variable[];
  readonly backward?: (gradient: GgmlTensor) => (GgmlTensor | null)[];
  /** Takes up the gradient of every computation. */
  readonly gradientSum?: StoredTensor;
}

/** A frozen matrix as both directions of a linear layer need it: [inputs, outputs] and, for the gradient, [outputs, inputs]. */
export interface FrozenMatrix {
  readonly weight: StoredTensor;
  /** Absent where no gradient is ever asked for (evaluation). */
  readonly transposed?: StoredTensor;
}

export interface RopeSettings {
  /** `enum`: 0 turns neighbouring pairs (2i, 2i + 1), 2 turns halves (i, i + D/2). */
  mode: 0 | 2;
  dimensions: number;
  base: number;
  /** Frequency factors of llama-3 scaling. */
  factors?: StoredTensor;
}

/**
 * Builds a ggml graph together with what reverse mode needs: every operation knows how a gradient passes through it, and
 * operations that no parameter lies below record nothing. Nothing is computed here.
 *
 * The gradients are those of the engine's own `…_back` operations; `graph.test.ts` checks each against finite differences.
 */
export class Graph {
  readonly backend: Backend;
  readonly context: GgmlContext;
  readonly #ggml: Ggml;
  readonly #computedFirst: GgmlTensor[] = [];

  constructor(backend: Backend) {
    this.backend = backend;
    this.#ggml = backend.engine.ggml;
    const headers = Number(this.#ggml.ggml_tensor_overhead()) * MAX_GRAPH_NODES;
    const graph = Number(this.#ggml.ggml_graph_overhead_custom(MAX_GRAPH_NODES, false));
    this.context = this.#ggml.ggml_init({ mem_size: headers + graph, mem_buffer: null, no_alloc: true });
  }

  /** Tensors in the order in which they are computed, each after all that leads to it; what is not among them comes last. */
  get computedFirst(): readonly GgmlTensor[] {
    return this.#computedFirst;
  }

  /**
   * Has tensors computed before all others that come later. By itself ggml walks down from the outputs, so that it computes early,
   * and keeps, what is needed late.
   */
  computeFirst(...tensors: GgmlTensor[]): void {
    this.#computedFirst.push(...tensors);
  }

  /** A stored tensor that takes no gradient: an input or a frozen weight. */
  constant(tensor: StoredTensor): Variable {
    return { handle: tensor.handle, shape: tensor.shape, requiresGradient: false, parents: [] };
  }

  /** A stored tensor whose gradient is wanted; with a sum, each computation adds it there. */
  parameter(tensor: StoredTensor, gradientSum?: StoredTensor): Variable {
    const sum = gradientSum && { gradientSum };
    return { handle: tensor.handle, shape: tensor.shape, requiresGradient: true, parents: [], ...sum };
  }

  /** x · Wᵀ for x [inputs, …]: [outputs, …]. The weight takes no gradient. */
  linear(matrix: FrozenMatrix, x: Variable): Variable {
    const [inputs, outputs] = matrix.weight.shape;
    this.#require(x.shape[0] === inputs, 'linear', matrix.weight.shape, x.shape);
    const shape = shapeOf([outputs, ...x.shape.slice(1)]);
    const product = (weight: StoredTensor, other: GgmlTensor) => frozenProduct(this.#ggml, this.context, weight, other);
    return this.#node(product(matrix.weight, x.handle), shape, [x], (gradient) => [product(transposedOf(matrix), gradient)]);
  }

  /** Aᵀ · B over the innermost axis for A [k, m, …] and B [k, n, …] with equal outer axes: [m, n, …]. */
  matmul(a: Variable, b: Variable): Variable {
    const outerAgree = a.shape[2] === b.shape[2] && a.shape[3] === b.shape[3];
    this.#require(a.shape[0] === b.shape[0] && outerAgree, 'matmul', a.shape, b.shape);
    const shape: Shape = [a.shape[1], b.shape[1], b.shape[2], b.shape[3]];
    return this.#node(this.#ggml.ggml_mul_mat(this.context, a.handle, b.handle), shape, [a, b], (gradient) => [
      a.requiresGradient ? this.#ggml.ggml_mul_mat(this.context, this.#transposeOf(b.handle), this.#transposeOf(gradient)) : null,
      b.requiresGradient ? this.#ggml.ggml_mul_mat(this.context, this.#transposeOf(a.handle), gradient) : null,
    ]);
  }

  add(a: Variable, b: Variable): Variable {
    this.#require(sameShape(a.shape, b.shape), 'add', a.shape, b.shape);
    return this.#node(this.#ggml.ggml_add(this.context, a.handle, b.handle), a.shape, [a, b], (gradient) => [gradient, gradient]);
  }

  /** Adds a frozen vector to every row. */
  addFrozen(x: Variable, vector: StoredTensor): Variable {
    this.#require(x.shape[0] === vector.shape[0], 'addFrozen', x.shape, vector.shape);
    return this.#node(this.#ggml.ggml_add(this.context, x.handle, vector.handle), x.shape, [x], (gradient) => [gradient]);
  }

  /** Multiplies every row by a frozen vector. */
  multiplyFrozen(x: Variable, vector: StoredTensor): Variable {
    this.#require(x.shape[0] === vector.shape[0], 'multiplyFrozen', x.shape, vector.shape);
    return this.#node(this.#ggml.ggml_mul(this.context, x.handle, vector.handle), x.shape, [x], (gradient) => [
      this.#ggml.ggml_mul(this.context, gradient, vector.handle),
    ]);
  }

  /** x / √(mean(x²) + ε) over the innermost axis. */
  rmsNorm(x: Variable, epsilon: number): Variable {
    return this.#node(this.#ggml.ggml_rms_norm(this.context, x.handle, epsilon), x.shape, [x], (gradient) => [
      this.#ggml.ggml_rms_norm_back(this.context, gradient, x.handle, epsilon),
    ]);
  }

  /** Rotary position embedding of x [D, heads, tokens]; `positions` is I32 [tokens]. */
  rope(x: Variable, positions: StoredTensor, settings: RopeSettings): Variable {
    const rotate = (operation: 'ggml_rope_ext' | 'ggml_rope_ext_back', tensor: GgmlTensor) =>
      this.#ggml[operation](
        this.context,
        tensor,
        positions.handle,
        settings.factors?.handle ?? null,
        settings.dimensions,
        settings.mode,
        0,
        settings.base,
        1,
        0,
        1,
        32,
        1,
      );
    return this.#node(rotate('ggml_rope_ext', x.handle), x.shape, [x], (gradient) => [rotate('ggml_rope_ext_back', gradient)]);
  }

  /** softmax(x · scale + mask) over the innermost axis; `mask` holds 0 and −∞ and may broadcast over the outer axes. */
  softmax(x: Variable, scale: number, mask?: StoredTensor): Variable {
    const y = this.#ggml.ggml_soft_max_ext(this.context, x.handle, mask?.handle ?? null, scale, 0);
    return this.#node(y, x.shape, [x], (gradient) => [this.#ggml.ggml_soft_max_ext_back(this.context, gradient, y, scale, 0)]);
  }

  /** silu(gate) · up */
  swiglu(gate: Variable, up: Variable): Variable {
    this.#require(sameShape(gate.shape, up.shape), 'swiglu', gate.shape, up.shape);
    const { context } = this;
    return this.#node(this.#ggml.ggml_swiglu_split(context, gate.handle, up.handle), gate.shape, [gate, up], (gradient) => [
      this.#ggml.ggml_silu_back(context, this.#ggml.ggml_mul(context, up.handle, gradient), gate.handle),
      this.#ggml.ggml_mul(context, this.#ggml.ggml_silu(context, gate.handle), gradient),
    ]);
  }

  reshape(x: Variable, ...dimensions: number[]): Variable {
    const shape = shapeOf(dimensions);
    this.#require(elementCount(shape) === elementCount(x.shape), 'reshape', x.shape, shape);
    return this.#node(this.#reshapeTo(x.handle, shape), shape, [x], (gradient) => [this.#reshapeTo(gradient, x.shape)]);
  }

  /** Moves axis i to axis `axes[i]` and makes the result contiguous. */
  permute(x: Variable, axes: readonly [number, number, number, number]): Variable {
    const shape = [1, 1, 1, 1];
    const inverse = [0, 0, 0, 0];
    axes.forEach((to, from) => {
      shape[to] = x.shape[from]!;
      inverse[to] = from;
    });
    const move = (tensor: GgmlTensor, order: readonly number[]) => {
      const [a = 0, b = 1, c = 2, d = 3] = order;
      return this.#ggml.ggml_cont(this.context, this.#ggml.ggml_permute(this.context, tensor, a, b, c, d));
    };
    return this.#node(move(x.handle, axes), shapeOf(shape), [x], (gradient) => [move(gradient, inverse)]);
  }

  /** Joins a and b along axis 1. */
  concatenateRows(a: Variable, b: Variable): Variable {
    const agree = [0, 2, 3].every((axis) => a.shape[axis] === b.shape[axis]);
    this.#require(agree, 'concatenateRows', a.shape, b.shape);
    const shape: Shape = [a.shape[0], a.shape[1] + b.shape[1], a.shape[2], a.shape[3]];
    const part = (gradient: GgmlTensor, of: Variable, firstRow: number) =>
      of.requiresGradient ? this.#ggml.ggml_cont(this.context, this.#rowsOf(gradient, shape, of.shape, firstRow)) : null;
    return this.#node(this.#ggml.ggml_concat(this.context, a.handle, b.handle, 1), shape, [a, b], (gradient) => [
      part(gradient, a, 0),
      part(gradient, b, a.shape[1]),
    ]);
  }

  /** Repeats x along axis 3, `count` times; x has extent 1 there. */
  repeatOuter(x: Variable, count: number): Variable {
    this.#require(x.shape[3] === 1, 'repeatOuter', x.shape, [1, 1, 1, count]);
    if (count === 1) return x;
    const shape: Shape = [x.shape[0], x.shape[1], x.shape[2], count];
    return this.#node(this.#ggml.ggml_repeat_4d(this.context, x.handle, ...shape), shape, [x], (gradient) => [
      this.#ggml.ggml_repeat_back(this.context, gradient, x.handle),
    ]);
  }

  /** Rows of x [n, rows] chosen by `rows` (I32 [m]): [n, m]. */
  gatherRows(x: Variable, rows: StoredTensor): Variable {
    const shape: Shape = [x.shape[0], rows.shape[0], 1, 1];
    return this.#node(this.#ggml.ggml_get_rows(this.context, x.handle, rows.handle), shape, [x], (gradient) => [
      this.#ggml.ggml_get_rows_back(this.context, gradient, rows.handle, x.handle),
    ]);
  }

  /**
   * What `build` makes of `inputs`, without keeping the values in between: the gradient computes them again. So `build` runs twice;
   * it may use no other value that needs a gradient, and only its output passes a gradient on.
   */
  recomputed<Made extends { output: Variable }>(inputs: readonly Variable[], build: (inputs: readonly Variable[]) => Made): Made {
    const made = build(inputs.map((input) => leafOf(input, false)));
    const output = this.#node(made.output.handle, made.output.shape, [...inputs], (gradient) => {
      const leaves = inputs.map((input) => leafOf(input, input.requiresGradient));
      const again = build(leaves).output;
      const wanted = leaves.filter(({ requiresGradient }) => requiresGradient);
      const gradients = this.gradients([[again, gradient]], wanted);
      return leaves.map((leaf) => gradients[wanted.indexOf(leaf)] ?? null);
    });
    return { ...made, output };
  }

  /**
   * Walks back from `seeds` (a value and the gradient with respect to it) and returns the gradient of each parameter.
   * Throws `INTERNAL` for a parameter that no seed depends on.
   */
  gradients(seeds: readonly [Variable, GgmlTensor][], parameters: readonly Variable[]): GgmlTensor[] {
    const gradients = new Map<Variable, GgmlTensor>(seeds);
    for (const variable of reverseOrder(seeds.map(([variable]) => variable))) {
      const gradient = gradients.get(variable);
      if (!gradient) continue;
      this.computeFirst(this.#addToSum(variable, gradient));
      if (!variable.backward) continue;
      variable.backward(gradient).forEach((part, index) => {
        const parent = variable.parents[index]!;
        if (!part || !parent.requiresGradient) return;
        const sum = gradients.get(parent);
        gradients.set(parent, sum ? this.#ggml.ggml_add(this.context, sum, part) : part);
      });
    }
    return parameters.map((parameter) => {
      const gradient = gradients.get(parameter);
      if (!gradient) throw new CartridgesError('INTERNAL', 'a parameter takes no part in the result');
      return gradient;
    });
  }

  dispose(): void {
    this.#ggml.ggml_free(this.context);
  }

  /** Where a variable has a sum, the gradient's memory is free for others once it was added. */
  #addToSum({ gradientSum }: Variable, gradient: GgmlTensor): GgmlTensor {
    return gradientSum ? this.#ggml.ggml_add_inplace(this.context, gradientSum.handle, gradient) : gradient;
  }

  #node(handle: GgmlTensor, shape: Shape, parents: Variable[], backward?: Variable['backward']): Variable {
    const requiresGradient = parents.some((parent) => parent.requiresGradient);
    return requiresGradient && backward
      ? { handle, shape, requiresGradient, parents, backward }
      : { handle, shape, requiresGradient: false, parents: [] };
  }

  #transposeOf(tensor: GgmlTensor): GgmlTensor {
    return this.#ggml.ggml_cont(this.context, this.#ggml.ggml_transpose(this.context, tensor));
  }

  #reshapeTo(tensor: GgmlTensor, shape: Shape): GgmlTensor {
    return this.#ggml.ggml_reshape_4d(this.context, tensor, ...shape);
  }

  #rowsOf(tensor: GgmlTensor, from: Shape, shape: Shape, firstRow: number): GgmlTensor {
    const rowBytes = from[0] * Float32Array.BYTES_PER_ELEMENT;
    const planeBytes = rowBytes * from[1];
    return this.#ggml.ggml_view_4d(
      this.context,
      tensor,
      ...shape,
      rowBytes,
      planeBytes,
      planeBytes * from[2],
      firstRow * rowBytes,
    );
  }

  /** ggml aborts the process on wrong shapes, so they are checked before it sees them. */
  #require(holds: boolean, operation: string, a: Shape, b: Shape): void {
    if (!holds)
      throw new CartridgesError('INTERNAL', `${operation}: shapes ${describeShape(a)} and ${describeShape(b)} do not fit`);
  }
}

function transposedOf({ transposed }: FrozenMatrix): StoredTensor {
  if (!transposed) throw new CartridgesError('INTERNAL', 'the model was loaded without the copies that gradients need');
  return transposed;
}

/** The same value, without what it was computed from. */
function leafOf({ handle, shape }: Variable, requiresGradient: boolean): Variable {
  return { handle, shape, requiresGradient, parents: [] };
}

/** Values that need a gradient, each after everything that was computed from it. */
function reverseOrder(roots: readonly Variable[]): Variable[] {
  const order: Variable[] = [];
  const seen = new Set<Variable>();
  const visit = (variable: Variable) => {
    if (seen.has(variable) || !variable.requiresGradient) return;
    seen.add(variable);
    variable.parents.forEach(visit);
    order.push(variable);
  };
  roots.forEach(visit);
  return order.reverse();
}
