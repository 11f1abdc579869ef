import { afterAll, describe, expect, test } from 'vitest';
import { Random } from '../core/random.js';
import { GgmlType } from '../native/ggml.js';
import { Backend } from './backend.js';
import { CompiledGraph } from './compiled-graph.js';
import { Graph, type Variable } from './graph.js';
import { elementCount } from './shape.js';
import { type StoredTensor, TensorStore } from './tensor-store.js';

const backend = new Backend({ device: 'cpu', threads: 1 });
afterAll(() => backend.dispose());

interface Case {
  /** Shapes of the parameters, whose gradients are checked. */
  shapes: number[][];
  /** Shapes of frozen tensors. */
  frozen?: number[][];
  /** Values of I32 tensors: positions, row numbers. */
  integers?: number[][];
  build: (graph: Graph, parameters: Variable[], frozen: StoredTensor[], integers: StoredTensor[]) => Variable;
}

const rope = { mode: 0, dimensions: 8, base: 10_000 } as const;
const CASES: Record<string, Case> = {
  linear: {
    shapes: [[6, 3]],
    frozen: [
      [6, 5],
      [5, 6],
    ],
    build: (graph, [x], [weight, transposed]) => graph.linear({ weight: weight!, transposed: transposed! }, x!),
  },
  matmul: {
    shapes: [
      [4, 3, 2, 2],
      [4, 5, 2, 2],
    ],
    build: (graph, [a, b]) => graph.matmul(a!, b!),
  },
  add: {
    shapes: [
      [4, 3],
      [4, 3],
    ],
    build: (graph, [a, b]) => graph.add(a!, b!),
  },
  'add of a value to itself': { shapes: [[4, 3]], build: (graph, [a]) => graph.add(a!, a!) },
  addFrozen: { shapes: [[4, 3]], frozen: [[4]], build: (graph, [x], [bias]) => graph.addFrozen(x!, bias!) },
  multiplyFrozen: { shapes: [[4, 3]], frozen: [[4]], build: (graph, [x], [scale]) => graph.multiplyFrozen(x!, scale!) },
  rmsNorm: { shapes: [[8, 3]], build: (graph, [x]) => graph.rmsNorm(x!, 1e-5) },
  'rope of neighbours': {
    shapes: [[8, 2, 3]],
    integers: [[4, 7, 9]],
    build: (graph, [x], _frozen, [positions]) => graph.rope(x!, positions!, rope),
  },
  'rope of halves with factors': {
    shapes: [[8, 2, 3]],
    frozen: [[4]],
    integers: [[4, 7, 9]],
    build: (graph, [x], [factors], [positions]) => graph.rope(x!, positions!, { ...rope, mode: 2, factors: factors! }),
  },
  softmax: { shapes: [[6, 4, 2]], build: (graph, [x]) => graph.softmax(x!, 0.7) },
  'softmax with a mask': {
    shapes: [[6, 4, 2]],
    frozen: [[6, 4]],
    build: (graph, [x], [mask]) => graph.softmax(x!, 0.7, mask!),
  },
  swiglu: {
    shapes: [
      [6, 3],
      [6, 3],
    ],
    build: (graph, [gate, up]) => graph.swiglu(gate!, up!),
  },
  reshape: { shapes: [[6, 4]], build: (graph, [x]) => graph.reshape(x!, 3, 2, 4) },
  permute: { shapes: [[2, 3, 4, 2]], build: (graph, [x]) => graph.permute(x!, [1, 2, 0, 3]) },
  concatenateRows: {
    shapes: [
      [3, 2, 2],
      [3, 4, 2],
    ],
    build: (graph, [a, b]) => graph.concatenateRows(a!, b!),
  },
  repeatOuter: { shapes: [[3, 2, 2]], build: (graph, [x]) => graph.repeatOuter(x!, 3) },
  'gatherRows with a row twice': {
    shapes: [[4, 5]],
    integers: [[3, 0, 3]],
    build: (graph, [x], _frozen, [rows]) => graph.gatherRows(x!, rows!),
  },
  'recomputed, one part behind the other': {
    shapes: [
      [6, 3],
      [6, 3],
      [6, 3],
    ],
    build: (graph, [a, b, c]) => {
      const part = ([x, y]: readonly Variable[]) => ({ output: graph.swiglu(graph.rmsNorm(x!, 1e-5), graph.add(x!, y!)) });
      const { output } = graph.recomputed([a!, b!], part);
      return graph.add(graph.recomputed([output, c!], part).output, a!);
    },
  },
  'recomputed, with an input that needs no gradient': {
    shapes: [[4, 3]],
    frozen: [[4, 3]],
    build: (graph, [a], [constant]) =>
      graph.recomputed([graph.constant(constant!), a!], ([x, y]) => ({ output: graph.swiglu(x!, y!) })).output,
  },
};

/** Weights of the sum that makes one number of a result: without them softmax and norms would have gradient zero. */
async function evaluate(
  testCase: Case,
  values: Float32Array[],
  frozen: Float32Array[],
  outputWeights?: Float32Array<ArrayBuffer>,
) {
  const store = new TensorStore(backend, 16);
  const parameters = testCase.shapes.map((shape) => store.declare(GgmlType.F32, ...shape));
  const constants = (testCase.frozen ?? []).map((shape) => store.declare(GgmlType.F32, ...shape));
  const integers = (testCase.integers ?? []).map((list) => store.declare(GgmlType.I32, list.length));
  const seed = outputWeights && store.declare(GgmlType.F32, outputWeights.length);
  store.allocate('a test');
  parameters.forEach((tensor, index) => {
    store.write(tensor, values[index]!);
  });
  constants.forEach((tensor, index) => {
    store.write(tensor, frozen[index]!);
  });
  integers.forEach((tensor, index) => {
    store.write(tensor, Int32Array.from(testCase.integers![index]!));
  });
  const graph = new Graph(backend);
  const leaves = parameters.map((tensor) => graph.parameter(tensor));
  const result = testCase.build(graph, leaves, constants, integers);
  let gradients: bigint[] = [];
  if (seed) {
    store.write(seed, outputWeights);
    const { ggml } = backend.engine;
    gradients = graph.gradients([[result, ggml.ggml_reshape_4d(graph.context, seed.handle, ...result.shape)]], leaves);
  }
  const compiled = new CompiledGraph(graph, [result.handle, ...gradients] as (typeof result.handle)[]);
  await compiled.compute();
  const output = compiled.read(result.handle, new Float32Array(elementCount(result.shape)));
  const read = gradients.map((tensor, index) =>
    compiled.read(tensor as typeof result.handle, new Float32Array(values[index]!.length)),
  );
  compiled.dispose();
  store.dispose();
  return { output, gradients: read };
}

describe('gradients equal central differences', () => {
  test.each(Object.entries(CASES))('%s', async (name, testCase) => {
    const random = new Random(11);
    const draw = (shape: number[]): Float32Array<ArrayBuffer> =>
      Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal());
    const values = testCase.shapes.map(draw);
    const frozen = (testCase.frozen ?? []).map(draw);
    if (name === 'linear') frozen[1] = transpose(frozen[0]!, 6, 5);
    if (name.includes('factors')) frozen[0] = Float32Array.of(1, 1.5, 2, 4);
    if (name.includes('mask')) frozen[0] = frozen[0]!.map((value) => (value > 0.8 ? Number.NEGATIVE_INFINITY : 0));

    const { output } = await evaluate(testCase, values, frozen);
    const outputWeights = output.map(() => random.normal());
    const { gradients } = await evaluate(testCase, values, frozen, outputWeights);
    const objective = async (changed: Float32Array[]) => {
      const result = await evaluate(testCase, changed, frozen);
      return result.output.reduce((sum, value, index) => sum + value * outputWeights[index]!, 0);
    };
    const step = 1e-2;
    for (const [index, array] of values.entries()) {
      for (let i = 0; i < array.length; i += Math.ceil(array.length / 8)) {
        const shifted = (by: number) =>
          values.map((other, which) => (which === index ? other.map((v, at) => (at === i ? v + by : v)) : other));
        const difference = ((await objective(shifted(step))) - (await objective(shifted(-step)))) / (2 * step);
        expect(Math.abs(gradients[index]![i]! - difference)).toBeLessThan(2e-3 * Math.max(1, Math.abs(difference)));
      }
    }
  });
});

test('a shape that does not fit is an error and not an abort', () => {
  const store = new TensorStore(backend, 2);
  const [a, b] = [store.declare(GgmlType.F32, 4, 3), store.declare(GgmlType.F32, 5, 3)];
  const graph = new Graph(backend);
  expect(() => graph.add(graph.parameter(a), graph.parameter(b))).toThrow(/add: shapes \[4, 3, 1, 1\] and \[5, 3, 1, 1\]/);
  graph.dispose();
  store.dispose();
});

test('the event loop is free while a graph computes', async () => {
  const store = new TensorStore(backend, 2);
  const size = 1024;
  const weight = store.declare(GgmlType.F32, size, size);
  const x = store.declare(GgmlType.F32, size, size);
  store.allocate('a test');
  const graph = new Graph(backend);
  const compiled = new CompiledGraph(graph, [graph.linear({ weight }, graph.constant(x)).handle]);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  await compiled.compute();
  clearInterval(timer);
  expect(ticks).toBeGreaterThan(2);
  compiled.dispose();
  store.dispose();
});

function transpose(values: Float32Array<ArrayBuffer>, columns: number, rows: number): Float32Array<ArrayBuffer> {
  return values.map((_, index) => values[(index % rows) * columns + Math.floor(index / rows)]!);
}
