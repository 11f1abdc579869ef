/** Makes steps of the graph step for `bench/training.ts`: `graph-step.ts MODEL PREFIX SLOTS SLOT_TOKENS STEPS THREADS`. */

import { normalRows } from '../../src/cartridge/initializers/random-rows.js';
import { Random } from '../../src/core/random.js';
import { FrozenModel } from '../../src/models/frozen-model.js';
import { readGguf } from '../../src/models/gguf.js';
import { readModelConfig } from '../../src/models/model-config.js';
import { Backend } from '../../src/tensor/backend.js';
import { CompiledGraph } from '../../src/tensor/compiled-graph.js';
import { bufferTypeNamed, profileDevice } from '../../src/tensor/device-profile.js';
import { GraphStep } from '../../src/training/graph-step.js';
import { serveRuns } from '../support/serve-runs.js';
import { benchPacks, fullSteps, readTrainingArguments } from '../support/training-subject.js';
import { stepOperations } from '../support/training-work.js';

const { modelPath, prefixTokens, slots, slotTokens, steps, threads } = readTrainingArguments();
const lanes = largestDivisor(slots, threads);

const baseBytes = process.memoryUsage.rss();
const backend = new Backend({ device: 'cpu', threads });
const gguf = readGguf(modelPath);
const config = readModelConfig(gguf);
// No cache: the speed of products is measured in the run that it is compared in.
const measureProducts = () => profileDevice(backend, { inputs: config.embedding, outputs: config.feedForward });
const profile = await measureProducts();
const { type, bufferType } = profile.chosen;
const buffer = bufferTypeNamed(backend, bufferType);
const model = await FrozenModel.load(backend, gguf, { forward: type, transposed: type, ...(buffer && { bufferType: buffer }) });
// Each lane takes an equal part of the slots as a pack of its own.
const { shape, packs } = benchPacks(config, { slots, slotTokens }, slots / lanes);
const step = new GraphStep(model, { shape, ...normalRows(config, prefixTokens, new Random(1)), frozenCount: 1, lanes });
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
    const start = performance.now();
    const figures = await fullSteps(step, packs, steps);
    return { ...figures, outsideShare: 1 - graphClock.milliseconds / (performance.now() - start) };
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
