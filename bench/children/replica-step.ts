/** Makes steps of the replica step for `bench/training.ts`: `replica-step.ts MODEL PREFIX SLOTS SLOT_TOKENS THREADS ggml|onednn`. */

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
import { serveRuns } from '../support/serve-runs.js';
import { benchPacks, fullStep, readTrainingArguments } from '../support/training-subject.js';
import { stepOperations } from '../support/training-work.js';

const { modelPath, prefixTokens, slots, slotTokens, threads, products } = readTrainingArguments();
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
const step = await ReplicaStep.create(model, { ...choice, shape, ...rows, frozenCount: 1 });

await serveRuns({
  facts: {
    weightType: choice.weightType,
    lanes: step.lanes,
    operations: packs.length * stepOperations(config, shape, prefixTokens),
    planBytes: step.plan.bytes,
    baseBytes,
  },
  run: () => fullStep(step, packs),
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
