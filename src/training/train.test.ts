import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { GOLDEN_FOLDER } from '../../test/support/golden.js';
import { normalRows } from '../cartridge/initializers/random-rows.js';
import { throwIfAborted } from '../core/errors.js';
import type { ProgressEvent } from '../core/progress.js';
import { Random } from '../core/random.js';
import { EXACT_WEIGHTS, FrozenModel } from '../models/frozen-model.js';
import { readGguf } from '../models/gguf.js';
import { Backend } from '../tensor/backend.js';
import type { RunTracker } from '../tracking/run-tracker.js';
import { CheckpointFile } from './checkpoint.js';
import type { TrainingExample } from './examples.js';
import { GraphStep } from './graph-step.js';
import { choosePackShape, packExamples } from './packing.js';
import { ReplicaStep } from './replica/replica-step.js';
import { type TrainInput, type TrainSettings, train } from './train.js';
import type { TrainingStep } from './training-step.js';

const P = 6;
const SETTINGS: TrainSettings = {
  seed: 5,
  steps: 8,
  learningRate: 0.02,
  warmupSteps: 2,
  decay: 'cosine',
  finalShare: 0.1,
  packsPerStep: 2,
  validateEverySteps: 3,
  checkpointEverySteps: 2,
};

let backend: Backend;
let model: FrozenModel;
let folder: string;
beforeAll(async () => {
  backend = new Backend({ device: 'cpu', threads: 1 });
  model = await FrozenModel.load(backend, readGguf(join(GOLDEN_FOLDER, 'tiny-qwen3.gguf')), EXACT_WEIGHTS);
});
afterAll(async () => {
  await model.dispose();
  backend.dispose();
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'train-'));
});
afterEach(() => rm(folder, { recursive: true }));

function examples(count: number, seed: number): TrainingExample[] {
  const random = new Random(seed);
  return Array.from({ length: count }, (_, index) => {
    const tokens = Int32Array.from({ length: 8 + random.integer(10) }, () => random.integer(500));
    const rows = Int32Array.from({ length: 4 }, (_row, at) => tokens.length - 5 + at);
    return {
      id: String(index),
      tokens,
      rows,
      rowEnds: Int32Array.of(2, 4, 6, 8),
      tokenIds: Int32Array.from({ length: 8 }, (_entry, at) => 30 + at + index),
      logprobs: Float32Array.from({ length: 8 }, () => Math.log(0.45)),
      entriesPerRow: 2,
    };
  });
}

const training = examples(30, 1);
const validation = examples(6, 2);
const shape = choosePackShape([...training, ...validation], 64);
const stepOptions = () => ({ shape, ...normalRows(model.config, P, new Random(9)), frozenCount: 1 });

/** A fresh run of the same settings, with its own step, as a new process would make it. */
function newRun(changes: Partial<TrainInput> = {}): TrainInput {
  const step = changes.step ?? new GraphStep(model, stepOptions());
  return { step, shape, training, validation, settings: SETTINGS, ...changes };
}

const WORKERS = 2;

function newReplicaStep(): Promise<ReplicaStep> {
  return ReplicaStep.create(model, {
    ...stepOptions(),
    workers: WORKERS,
    products: { provider: 'ggml', operandType: 'f32' },
  });
}

const checkpoints = () => new CheckpointFile(join(folder, 'checkpoint.safetensors'), { seed: 5 });

test('lowers the loss and keeps the rows of the best validation', async () => {
  const losses: number[] = [];
  const onProgress = (event: ProgressEvent) => {
    if (event.kind === 'progress') losses.push(event.values!['loss']!);
  };
  const run = newRun();
  const result = await train(run, { onProgress });
  expect(losses).toHaveLength(8);
  expect(losses.at(-1)!).toBeLessThan(losses[0]!);
  expect(result).toMatchObject({ steps: 8, stoppedBy: 'steps' });
  expect(result.validationKl).toBeGreaterThan(0);
  const frozen = normalRows(model.config, P, new Random(9)).keys[0]!.slice(0, 64);
  expect(result.best.keys[0]!.slice(0, 64)).toEqual(frozen);
  run.step.dispose();
});

test.each([
  { steps: 6, validatedAt: [3, 6] },
  { steps: 8, validatedAt: [3, 6, 8] },
])('$steps steps are validated once each, the last one too, though an earlier one was best', async ({ steps, validatedAt }) => {
  const run = newRun({ settings: { ...SETTINGS, steps } });
  let [updates, divergence] = [0, 1];
  const validated: number[] = [];
  const update = run.step.update.bind(run.step);
  run.step.update = (learningRate) => {
    updates++;
    return update(learningRate);
  };
  run.step.evaluate = async () => {
    validated.push(updates);
    return { lossSum: 1, klSum: divergence++, normalizer: 1 };
  };
  expect(await train(run)).toMatchObject({ bestStep: 3, steps });
  expect(validated).toEqual(validatedAt);
  run.step.dispose();
});

test('a validation is stopped too', async () => {
  const controller = new AbortController();
  const run = newRun({ checkpoints: checkpoints() });
  run.step.evaluate = async (_packs, signal) => {
    controller.abort();
    throwIfAborted(signal);
    return { lossSum: 1, klSum: 1, normalizer: 1 };
  };
  await expect(train(run, { signal: controller.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
  expect((await checkpoints().read())?.stepsDone).toBe(3);
  run.step.dispose();
});

test.each([
  ['between two steps', (run: TrainInput, stop: () => void) => stopAfter(run, 5, stop)],
  ['in the middle of a step', (run: TrainInput, stop: () => void) => stopWithin(run, 6, stop)],
])('a run that is stopped %s and resumed equals one that is not, bit for bit', async (_when, arrange) => {
  const whole = newRun();
  const expected = await train(whole);
  const controller = new AbortController();
  const first = newRun({ checkpoints: checkpoints() });
  arrange(first, () => controller.abort());
  await expect(train(first, { signal: controller.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
  expect((await checkpoints().read())?.stepsDone).toBe(5);
  const second = newRun({ checkpoints: checkpoints() });
  const resumed = await train(second);
  expect(resumed).toEqual(expected);
  expect(await second.step.state()).toEqual(await whole.step.state());
  for (const run of [whole, first, second]) run.step.dispose();
});

function stopAfter({ step }: TrainInput, updates: number, stop: () => void): void {
  const update = step.update.bind(step);
  let calls = 0;
  step.update = async (learningRate) => {
    const result = await update(learningRate);
    if (++calls === updates) stop();
    return result;
  };
}

/** The first pack of a step is computed and the second is not begun. */
function stopWithin({ step }: TrainInput, updates: number, stop: () => void): void {
  const accumulate = step.accumulate.bind(step);
  let calls = 0;
  step.accumulate = async (packs, signal) => {
    if (++calls === updates) {
      await accumulate(packs.slice(0, 1));
      stop();
    }
    return accumulate(packs, signal);
  };
}

test('a checkpoint of other settings is refused by name', async () => {
  const run = newRun({ checkpoints: checkpoints(), settings: { ...SETTINGS, steps: 2 } });
  await train(run);
  const other = new CheckpointFile(join(folder, 'checkpoint.safetensors'), { seed: 6 });
  await expect(other.read()).rejects.toMatchObject({
    code: 'SETTINGS_CHANGED',
    message: expect.stringContaining('another seed'),
  });
  run.step.dispose();
});

/** Changes what the calls of a step return after the first five updates. */
type Fault = (step: TrainingStep, isFaulty: () => boolean) => void;

const FAULTS: [what: string, fault: Fault][] = [
  [
    'loss',
    (step, isFaulty) => {
      const accumulate = step.accumulate.bind(step);
      step.accumulate = async (packs) => ({ ...(await accumulate(packs)), ...(isFaulty() && { lossSum: Number.NaN }) });
    },
  ],
  [
    'norm of the gradient',
    (step, isFaulty) => {
      const update = step.update.bind(step);
      step.update = async (learningRate) => {
        const { gradientNorm } = await update(isFaulty() ? Number.NaN : learningRate);
        return { gradientNorm: isFaulty() ? Number.POSITIVE_INFINITY : gradientNorm };
      };
    },
  ],
  [
    'validation divergence',
    (step, isFaulty) => {
      const evaluate = step.evaluate.bind(step);
      step.evaluate = async (packs) => ({ ...(await evaluate(packs)), ...(isFaulty() && { klSum: Number.NaN }) });
    },
  ],
  [
    'sum of the rows',
    (step, isFaulty) => {
      const state = step.state.bind(step);
      step.state = async () => {
        const rows = await state();
        if (isFaulty()) rows.values[0]![7] = Number.NaN;
        return rows;
      };
    },
  ],
];

test.each(FAULTS)(
  'a %s that is not a number stops the run and keeps the last checkpoint with the best rows',
  async (what, fault) => {
    const run = newRun({ checkpoints: checkpoints() });
    let updates = 0;
    const update = run.step.update.bind(run.step);
    run.step.update = async (learningRate) => {
      const result = await update(learningRate);
      updates++;
      return result;
    };
    fault(run.step, () => updates >= 5);
    await expect(train(run)).rejects.toMatchObject({ code: 'NON_FINITE_LOSS', message: expect.stringContaining(what) });
    const kept = await checkpoints().read();
    expect(kept).toMatchObject({ stepsDone: 4, best: { stepsDone: 3 } });
    expect(kept!.best!.validationKl).toBeGreaterThan(0);
    for (const rows of [...kept!.state.keys, ...kept!.best!.values]) expect(rows.every(Number.isFinite)).toBe(true);
    run.step.dispose();
  },
);

test('a worker that dies ends the run with a clear error, and the run continues from its last checkpoint', async () => {
  const whole = newRun({ step: await newReplicaStep() });
  const expected = await train(whole);
  const workers: Worker[] = [];
  const remember = (worker: Worker) => workers.push(worker);
  process.on('worker', remember);
  const first = newRun({ step: await newReplicaStep(), checkpoints: checkpoints() });
  process.off('worker', remember);
  expect(workers).toHaveLength(WORKERS);
  stopAfter(first, 5, () => void workers[1]!.terminate());
  await expect(train(first)).rejects.toMatchObject({
    code: 'ENGINE_FAILURE',
    message: expect.stringContaining('a thread of the training step stopped'),
    hint: expect.stringContaining('--resume'),
  });
  expect((await checkpoints().read())?.stepsDone).toBe(4);
  const second = newRun({ step: await newReplicaStep(), checkpoints: checkpoints() });
  expect(await train(second)).toEqual(expected);
  for (const run of [whole, first, second]) run.step.dispose();
});

test('reports how full packs are, and counts only the tokens of conversations as speed', async () => {
  const MILLISECONDS = 50;
  const wide = { ...shape, slots: 1, slotTokens: 128 };
  const step = new GraphStep(model, { ...stepOptions(), shape: wide });
  const accumulate = step.accumulate.bind(step);
  step.accumulate = async (packs) => {
    await setTimeout(MILLISECONDS);
    return accumulate(packs);
  };
  const logged: Record<string, number>[] = [];
  const tracker: RunTracker = {
    continueAfter: async () => {},
    log: (_step, values) => logged.push(values),
    table: () => {},
    finish: async () => {},
    close: async () => {},
  };
  const [example] = training;
  const settings = { ...SETTINGS, steps: 1, packsPerStep: 1 };
  await train(newRun({ step, shape: wide, training: [example!], settings, tracker }));
  const used = example!.tokens.length;
  expect(logged[0]!['train/pack_fill']).toBe(used / 128);
  expect(logged[0]!['train/tokens_per_second']).toBeLessThan(used / ((MILLISECONDS - 1) / 1000));
  step.dispose();
});

test('a deadline ends the run with what there is', async () => {
  const run = newRun({ deadline: performance.now() });
  expect(await train(run)).toMatchObject({ steps: 1, stoppedBy: 'deadline' });
  run.step.dispose();
});

test('gradient accumulation over two packs equals one update over both', async () => {
  const training = examples(8, 3);
  const shape = choosePackShape(training, 1024);
  const rows = normalRows(model.config, P, new Random(9));
  const step = () => new GraphStep(model, { shape, ...rows, frozenCount: 1 });
  const [together, apart] = [step(), step()];
  await together.accumulate(packExamples(training, shape));
  for (const example of training) await apart.accumulate(packExamples([example], shape));
  await together.update(0.01);
  await apart.update(0.01);
  const [a, b] = [(await together.state()).keys[0]!, (await apart.state()).keys[0]!];
  expect(Math.max(...a.map((value, index) => Math.abs(value - b[index]!)))).toBeLessThan(1e-4);
  together.dispose();
  apart.dispose();
});
