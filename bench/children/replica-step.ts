/** Makes steps of the replica step for `bench/training.ts`: `replica-step.ts MODEL PREFIX SLOTS SLOT_TOKENS STEPS THREADS ggml|onednn`. */

import { normalRows } from '../../src/cartridge/initializers/random-rows.js';
import { Random } from '../../src/core/random.js';
import { FrozenModel } from '../../src/models/frozen-model.js';
import { readGguf } from '../../src/models/gguf.js';
import { readModelConfig } from '../../src/models/model-config.js';
import { settingsSchema } from '../../src/pipeline/settings.js';
import { chooseTrainingStep } from '../../src/pipeline/training-step-choice.js';
import { Backend } from '../../src/tensor/backend.js';
import { profileProducts } from '../../src/tensor/products/profile-products.js';
import { ReplicaStep } from '../../src/training/replica/replica-step.js';
import type { WorkTimes } from '../../src/training/replica/work-clock.js';
import { serveRuns } from '../support/serve-runs.js';
import { benchPacks, fullSteps, readTrainingArguments } from '../support/training-subject.js';
import { stepOperations } from '../support/training-work.js';

const { modelPath, prefixTokens, slots, slotTokens, steps, threads, products } = readTrainingArguments();
const baseBytes = process.memoryUsage.rss();
const backend = new Backend({ device: 'cpu', threads });
const gguf = readGguf(modelPath);
const config = readModelConfig(gguf);
const settings = settingsSchema.parse({ training: { step: 'replica', products } });
const choice = await chooseTrainingStep(backend, config, settings);
if (choice.step !== 'replica') throw new Error(`the replica step was not chosen with ${products}`);
const model = await FrozenModel.load(backend, gguf, choice.weights);
const { shape, packs } = benchPacks(config, { slots, slotTokens }, slots);
const rows = normalRows(config, prefixTokens, new Random(1));
const step = await ReplicaStep.create(model, { ...choice, shape, ...rows, frozenCount: 1, profiles: true });

await serveRuns({
  facts: {
    weightType: choice.weightType,
    lanes: step.lanes,
    operations: packs.length * stepOperations(config, shape, prefixTokens),
    planBytes: step.plan.bytes,
    baseBytes,
  },
  async run() {
    await step.takeProfile();
    const start = performance.now();
    const figures = await fullSteps(step, packs, steps);
    return { ...figures, ...shares(await step.takeProfile(), performance.now() - start) };
  },
  async beside() {
    const { measured } = await profileProducts(backend.engine, { inputs: config.embedding, outputs: config.feedForward });
    const ofProvider = measured.filter((speed) => speed.products.provider === choice.products.provider);
    // Measured on one core; the step has as many as it has workers.
    return { productGigaflops: step.lanes * Math.max(...ofProvider.map(({ gigaflops }) => gigaflops)) };
  },
  async dispose() {
    step.dispose();
    await model.dispose();
    backend.dispose();
  },
});

/** Kinds of work as parts of the time of all workers, in which they wait for each other too. */
function shares(profile: readonly WorkTimes[], milliseconds: number): Record<string, number> {
  const share = (kind: keyof WorkTimes) => profile.reduce((sum, times) => sum + times[kind], 0) / (profile.length * milliseconds);
  const [linearShare, attentionShare, restShare, busyShare] = [share('linear'), share('attention'), share('rest'), share('busy')];
  const outsideShare = busyShare - linearShare - attentionShare - restShare;
  return { linearShare, attentionShare, restShare, outsideShare, waitingShare: 1 - busyShare };
}
