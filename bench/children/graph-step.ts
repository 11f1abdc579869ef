/** Makes steps of the graph step for `bench/training.ts`: `graph-step.ts MODEL PREFIX SLOTS SLOT_TOKENS THREADS`. */

import { normalRows } from '../../src/cartridge/initializers/random-rows.js';
import { Random } from '../../src/core/random.js';
import { FrozenModel } from '../../src/models/frozen-model.js';
import { readGguf } from '../../src/models/gguf.js';
import { readModelConfig } from '../../src/models/model-config.js';
import { Backend } from '../../src/tensor/backend.js';
import { CompiledGraph } from '../../src/tensor/compiled-graph.js';
import { bufferTypeNamed, profileDevice } from '../../src/tensor/device-profile.js';
import type { TrainingExample } from '../../src/training/examples.js';
import { GraphStep } from '../../src/training/graph-step.js';
import type { PackShape } from '../../src/training/pack.js';
import { packExamples } from '../../src/training/packing.js';
import { serveRuns } from '../support/serve-runs.js';
import { stepOperations } from '../support/training-work.js';

const TEACHER_ENTRIES = 20;
const LEARNING_RATE = 2e-3;

const [modelPath, ...numbers] = process.argv.slice(2);
const [prefixTokens, slots, slotTokens, threads] = numbers.map(Number) as [number, number, number, number];
const random = new Random(1);
const lanes = largestDivisor(slots, threads);
/** Each lane takes an equal part of the slots as a pack of its own. */
const shape: PackShape = {
  slots: slots / lanes,
  slotTokens,
  supervisedRows: (slots / lanes) * slotTokens,
  entriesPerRow: TEACHER_ENTRIES,
};

const baseBytes = process.memoryUsage.rss();
const backend = new Backend({ device: 'cpu', threads });
const gguf = readGguf(modelPath!);
const config = readModelConfig(gguf);
// No cache: the speed of products is measured in the run that it is compared in.
const measureProducts = () => profileDevice(backend, { inputs: config.embedding, outputs: config.feedForward });
const profile = await measureProducts();
const { type, bufferType } = profile.chosen;
const buffer = bufferTypeNamed(backend, bufferType);
const model = await FrozenModel.load(backend, gguf, { forward: type, transposed: type, ...(buffer && { bufferType: buffer }) });
const step = new GraphStep(model, { shape, ...normalRows(config, prefixTokens, random), frozenCount: 1, lanes });
const packs = packExamples(
  Array.from({ length: slots }, (_, slot) => randomExample(String(slot), config.vocabularySize)),
  shape,
);
const graphClock = watchGraphs();

await serveRuns({
  facts: {
    weightType: profile.chosen.name,
    lanes: step.lanes,
    operations: packs.length * stepOperations(config, shape, prefixTokens),
    planBytes: step.plan.bytes,
    baseBytes,
  },
  async run() {
    graphClock.milliseconds = 0;
    const { lossSum, normalizer } = await step.accumulate(packs);
    const start = performance.now();
    await step.update(LEARNING_RATE);
    return {
      loss: lossSum / normalizer,
      graphMilliseconds: graphClock.milliseconds,
      updateMilliseconds: performance.now() - start,
    };
  },
  async beside() {
    const { measured } = await measureProducts();
    return { productGigaflops: Math.max(...measured.map(({ gigaflops }) => gigaflops)) };
  },
  async dispose() {
    step.dispose();
    await model.dispose();
    backend.dispose();
  },
});

/** A full slot of random tokens, every one supervised by twenty different classes whose shares sum to 1. */
function randomExample(id: string, vocabularySize: number): TrainingExample {
  const entries = slotTokens * TEACHER_ENTRIES;
  const tokenIds = new Int32Array(entries);
  const logprobs = new Float32Array(entries);
  for (let row = 0; row < slotTokens; row++) {
    const shares = Array.from({ length: TEACHER_ENTRIES }, () => random.uniform() + 1e-3);
    const total = shares.reduce((sum, share) => sum + share, 0);
    // Classes of a row lie a fixed stride apart, and so differ.
    const [first, stride] = [random.integer(vocabularySize), Math.floor(vocabularySize / TEACHER_ENTRIES)];
    for (let entry = 0; entry < TEACHER_ENTRIES; entry++) {
      tokenIds[row * TEACHER_ENTRIES + entry] = (first + entry * stride) % vocabularySize;
      logprobs[row * TEACHER_ENTRIES + entry] = Math.log(shares[entry]! / total);
    }
  }
  return {
    id,
    tokens: Int32Array.from({ length: slotTokens }, () => random.integer(vocabularySize)),
    rows: Int32Array.from({ length: slotTokens }, (_, row) => row),
    rowEnds: Int32Array.from({ length: slotTokens }, (_, row) => (row + 1) * TEACHER_ENTRIES),
    tokenIds,
    logprobs,
    entriesPerRow: TEACHER_ENTRIES,
  };
}

/** Sums up the time in which at least one lane computes: the rest of a step is our own code on the event loop. */
function watchGraphs(): { milliseconds: number } {
  const clock = { milliseconds: 0 };
  const compute = CompiledGraph.prototype.compute;
  let [computing, start] = [0, 0];
  CompiledGraph.prototype.compute = async function (this: CompiledGraph) {
    if (computing++ === 0) start = performance.now();
    await compute.call(this);
    if (--computing === 0) clock.milliseconds += performance.now() - start;
  };
  return clock;
}

function largestDivisor(value: number, limit: number): number {
  return Array.from({ length: limit }, (_, index) => limit - index).find((divisor) => value % divisor === 0) ?? 1;
}
