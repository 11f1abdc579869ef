import { afterAll, expect, test } from 'vitest';
import { Random } from '../core/random.js';
import { GgmlType } from '../native/ggml.js';
import { Backend } from './backend.js';
import { CompiledGraph } from './compiled-graph.js';
import { Graph } from './graph.js';
import { declareSparseTargets, sparseCrossEntropy, writeSparseTargets } from './sparse-cross-entropy.js';
import { TensorStore } from './tensor-store.js';

const [INPUTS, CLASSES, ROWS, ENTRIES] = [6, 11, 5, 3];
/** Three chunks, the last one smaller. */
const CHUNK_ROWS = 2;
const ids = Int32Array.of(0, 3, 10, 2, 1, 4, 5, 9, 0, 7, 8, 6, 10, 0, 1);
/** Sums other than 1, a row with one entry, and one without any. */
const weights = Float32Array.of(0.5, 0.2, 0.1, 0.9, 0.05, 0.05, 0.4, 0, 0, 0, 0, 0, 0.3, 0.3, 0.3);

const backend = new Backend({ device: 'cpu', threads: 1 });
afterAll(() => backend.dispose());

const random = new Random(5);
const draw = (count: number) => Float32Array.from({ length: count }, () => random.normal());
const head = draw(INPUTS * CLASSES);
const transposed = head.map((_, index) => head[(index % CLASSES) * INPUTS + Math.floor(index / CLASSES)]!);
const hidden = draw(INPUTS * ROWS);

/** The loss of hidden values and its gradient. */
async function evaluate(values: Float32Array) {
  const store = new TensorStore(backend, 16);
  const [x, weight, back] = [
    store.declare(GgmlType.F32, INPUTS, ROWS),
    store.declare(GgmlType.F32, INPUTS, CLASSES),
    store.declare(GgmlType.F32, CLASSES, INPUTS),
  ];
  const chunks = declareSparseTargets(store, ROWS, ENTRIES, CHUNK_ROWS);
  store.allocate('a test');
  store.write(x, values);
  store.write(weight, head);
  store.write(back, transposed);
  writeSparseTargets(store, chunks, ENTRIES, ids, weights);
  const graph = new Graph(backend);
  const { logProbabilities, hiddenGradient } = sparseCrossEntropy(
    graph,
    { weight, transposed: back },
    graph.parameter(x),
    chunks,
  );
  const compiled = new CompiledGraph(graph, [...logProbabilities, hiddenGradient!]);
  await compiled.compute();
  const found = logProbabilities.flatMap((tensor, index) => [
    ...compiled.read(tensor, new Float32Array(chunks[index]!.rows * ENTRIES)),
  ]);
  const gradient = compiled.read(hiddenGradient!, new Float32Array(values.length));
  compiled.dispose();
  store.dispose();
  return { loss: -found.reduce((sum, value, entry) => sum + weights[entry]! * value, 0), gradient };
}

/** The same loss by its definition, in doubles. */
function plainLoss(values: Float32Array): number {
  let loss = 0;
  for (let row = 0; row < ROWS; row++) {
    const logits = Array.from({ length: CLASSES }, (_, label) => {
      let sum = 0;
      for (let i = 0; i < INPUTS; i++) sum += head[label * INPUTS + i]! * values[row * INPUTS + i]!;
      return sum;
    });
    const logSumExp = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    for (let entry = row * ENTRIES; entry < (row + 1) * ENTRIES; entry++) {
      loss -= weights[entry]! * (logits[ids[entry]!]! - logSumExp);
    }
  }
  return loss;
}

test('the loss is the definition, and its gradient equals central differences', async () => {
  const { loss, gradient } = await evaluate(hidden);
  expect(loss).toBeCloseTo(plainLoss(hidden), 4);
  for (const [index, found] of gradient.entries()) {
    const shifted = (by: number) => hidden.map((value, at) => (at === index ? value + by : value));
    const [above, below] = [shifted(1e-3), shifted(-1e-3)];
    const difference = (plainLoss(above) - plainLoss(below)) / (above[index]! - below[index]!);
    expect(Math.abs(found - difference)).toBeLessThan(1e-4 * Math.max(1, Math.abs(difference)));
  }
});
