import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { normalRows } from '../src/cartridge/initializers/random-rows.js';
import { packageRoot } from '../src/core/package.js';
import { Random } from '../src/core/random.js';
import { FrozenModel } from '../src/models/frozen-model.js';
import { readGguf } from '../src/models/gguf.js';
import { weightBytes } from '../src/models/weight-bytes.js';
import { GgmlType } from '../src/native/ggml.js';
import { Backend } from '../src/tensor/backend.js';
import type { PackShape } from '../src/training/pack.js';
import { ggmlScratchBytes } from '../src/training/replica/ggml-scratch.js';
import { planReplica } from '../src/training/replica/replica-plan.js';
import { ReplicaStep } from '../src/training/replica/replica-step.js';
import type { CartridgeGradients, StepLoss, TrainingStep } from '../src/training/training-step.js';
import { cosine, largestDifference, largestMagnitude, PACKAGED_GOLDEN_FOLDER } from './support/golden.js';
import { randomPacks } from './support/training-packs.js';
import { BF16_KINDS, LACKING_KINDS, STEP_KINDS, WEIGHTS } from './support/training-steps.js';

const ROWS = 19;
const LEARNING_RATE = 0.02;
/** What operands in bf16 may change: the gradient's direction and a share of the loss. */
const ROUNDED_COSINE = 0.999;
const ROUNDED_LOSS_SHARE = 0.01;
const ALLOWED_GROWTH = 8 << 20;
/** Nanoseconds, for the 99th percentile of the event loop's delay. */
const ALLOWED_DELAY = 20e6;
/** Several blocks of queries in a slot, which do not divide it, and more conversations than slots. */
const shape: PackShape = { slots: 2, slotTokens: 205, supervisedRows: 150, entriesPerRow: 3 };

const backend = new Backend({ device: 'cpu', threads: 2 });
const gguf = readGguf(join(PACKAGED_GOLDEN_FOLDER, 'tiny-qwen3.gguf'));
let model: FrozenModel;
let rounded: FrozenModel;
beforeAll(async () => {
  model = await FrozenModel.load(backend, gguf, WEIGHTS.f32);
  rounded = await FrozenModel.load(backend, gguf, WEIGHTS.bf16);
});
afterAll(async () => {
  await model.dispose();
  await rounded.dispose();
  backend.dispose();
});

/** Every kind of step, and the model that it takes. */
const ALL_KINDS = [
  ...STEP_KINDS.map((kind) => ({ ...kind, modelOf: () => model })),
  ...BF16_KINDS.map((kind) => ({ ...kind, modelOf: () => rounded })),
];
test.skip.each(LACKING_KINDS)('$name: $reason', () => {});

test.each(STEP_KINDS)('$name: rows of weights that lie apart change nothing', async ({ create }) => {
  const pocket = readGguf(join(packageRoot, 'models', 'pocket', 'pocket.gguf'));
  const gradientsWith = async (spacesRows: boolean) => {
    const frozen = await FrozenModel.load(backend, pocket, { ...WEIGHTS.f32, spacesRows });
    expect(frozen.layers.some(({ query }) => query.weight.rowBytes !== undefined)).toBe(spacesRows);
    const step = await create(frozen, stepOptions(shape, frozen.config));
    await step.accumulate(packs([40, 90], shape, frozen.config));
    const { keys, values } = await step.gradients();
    step.dispose();
    await frozen.dispose();
    return flat([...keys, ...values]);
  };
  const [together, apart] = [await gradientsWith(false), await gradientsWith(true)];
  expect(largestDifference(apart, together)).toBeLessThan(1e-6 * largestMagnitude(together));
});

const packs = (lengths: readonly number[], of = shape, config = model.config) => randomPacks(lengths, of, config.vocabularySize);
const stepOptions = (of = shape, config = model.config) => ({
  shape: of,
  ...normalRows(config, ROWS, new Random(3)),
  frozenCount: 2,
  logitChunkBytes: config.vocabularySize * 4 * 20,
});
const everything = async (step: TrainingStep) => {
  const { keys, values, adam } = await step.state();
  return [...keys, ...values, ...adam.first, ...adam.second];
};

const zeroRows = (tokenCount: number) => {
  const { layers, kvHeads, headDimension } = model.config;
  const zeros = () => Array.from({ length: layers }, () => new Float32Array(tokenCount * kvHeads * headDimension));
  return { keys: zeros(), values: zeros() };
};

const flat = (layers: readonly Float32Array[]) => layers.flatMap((layer) => [...layer]);

/**
 * The share of moments during some work from which an event waits longer than {@link ALLOWED_DELAY}. Unlike a percentile of ticks
 * it counts a long turn by its length: such turns are few, but take all the time.
 */
async function delayedShare(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  let last = start;
  let delayed = 0;
  const tick = () => {
    const now = performance.now();
    delayed += Math.max(0, now - last - ALLOWED_DELAY / 1e6);
    last = now;
  };
  const timer = setInterval(tick, 1);
  await work();
  tick();
  clearInterval(timer);
  return delayed / (last - start);
}

/** The largest difference of two lists of arrays, in parts of the largest value. */
function relativeDifference(a: readonly Float32Array[], b: readonly Float32Array[]): number {
  return Math.max(...a.map((array, index) => largestDifference(array, b[index]!))) / Math.max(...b.map(largestMagnitude));
}

describe('gradients are those of the graph step', () => {
  const layouts = [
    { layout: 'long conversations', lengths: [205, 180] },
    { layout: 'several in a slot', lengths: [70, 60, 75, 90, 40, 30, 20] },
    { layout: 'little of a slot', lengths: [30] },
    { layout: 'more than a pack', lengths: [205, 130, 75, 60, 200, 150] },
  ];
  const expected: { loss: StepLoss; gradients: CartridgeGradients }[] = [];
  beforeAll(async () => {
    const reference = await STEP_KINDS[0]!.create(model, stepOptions(), 2);
    for (const { lengths } of layouts) {
      expected.push({ loss: await reference.accumulate(packs(lengths)), gradients: await reference.gradients() });
      await reference.restore(await reference.state());
    }
    reference.dispose();
  });

  const cases = STEP_KINDS.slice(1).flatMap((kind) => [1, 2, 3].map((workers) => ({ ...kind, workers })));
  test.each(cases)('$name, $workers workers', async ({ create, workers }) => {
    const step = await create(model, stepOptions(), workers);
    for (const [index, { layout, lengths }] of layouts.entries()) {
      const { loss, gradients } = expected[index]!;
      const found = await step.accumulate(packs(lengths));
      expect(found.lossSum, layout).toBeCloseTo(loss.lossSum, 3);
      expect(found.normalizer, layout).toBe(loss.normalizer);
      for (const kind of ['keys', 'values'] as const) {
        expect(relativeDifference((await step.gradients())[kind], gradients[kind]), layout).toBeLessThan(1e-5);
        const frozen = 2 * model.config.kvHeads * model.config.headDimension;
        expect(largestMagnitude((await step.gradients())[kind][0]!.subarray(0, frozen)), layout).toBe(0);
      }
      await step.restore(await step.state());
    }
    step.dispose();
  });

  // Its score is what the attention subtracts from all others, whose powers of e then overflow, or vanish.
  test.each(STEP_KINDS.slice(1))('where queries look far away from the first row, $name', async ({ create }) => {
    const options = stepOptions();
    const rowValues = model.config.kvHeads * model.config.headDimension;
    for (const keys of options.keys) for (let index = 0; index < rowValues; index++) keys[index]! *= 300;
    const gradientsOf = async (step: TrainingStep) => {
      await step.accumulate(packs([205, 130, 60]));
      const gradients = await step.gradients();
      step.dispose();
      return gradients;
    };
    const [found, exact] = [
      await gradientsOf(await create(model, options, 1)),
      await gradientsOf(await STEP_KINDS[0]!.create(model, options, 1)),
    ];
    for (const kind of ['keys', 'values'] as const) expect(relativeDifference(found[kind], exact[kind])).toBeLessThan(1e-3);
  });

  const roundedCases = BF16_KINDS.flatMap((kind) => [1, 3].map((workers) => ({ ...kind, workers })));
  test.each(roundedCases)('in direction, $name, $workers workers', async ({ create, workers }) => {
    const step = await create(rounded, stepOptions(), workers);
    for (const [index, { layout, lengths }] of layouts.entries()) {
      const { loss, gradients } = expected[index]!;
      const found = await step.accumulate(packs(lengths));
      expect(Math.abs(found.lossSum / loss.lossSum - 1), layout).toBeLessThan(ROUNDED_LOSS_SHARE);
      for (const kind of ['keys', 'values'] as const) {
        expect(cosine(flat((await step.gradients())[kind]), flat(gradients[kind])), layout).toBeGreaterThan(ROUNDED_COSINE);
      }
      await step.restore(await step.state());
    }
    step.dispose();
  });
});

describe('the plan of the memory', () => {
  const after = async (step: TrainingStep, config = model.config) => {
    const contents = packs([70, 60, 75, 90, 40, 30, 20], shape, config);
    const loss = await step.accumulate(contents);
    const gradients = await step.gradients();
    await step.update(LEARNING_RATE);
    const validation = await step.evaluate(contents);
    const { description, bytes } = step.plan;
    const state = await everything(step);
    step.dispose();
    return { description, bytes, results: { loss, gradients, state, validation } };
  };

  test.each(ALL_KINDS)('$name: activations that do not fit are computed again, to the same bits', async ({ create, modelOf }) => {
    const kept = await after(await create(modelOf(), stepOptions(), 2));
    const recomputed = await after(await create(modelOf(), { ...stepOptions(), memoryBytes: kept.bytes - 1 }, 2));
    expect(kept.description).toContain('activations kept');
    expect(recomputed.description).toContain('activations recomputed');
    expect(recomputed.bytes).toBeLessThan(kept.bytes);
    expect(recomputed.results).toEqual(kept.results);
  });

  const counts = [
    { ...STEP_KINDS[0]!, layers: [1, 2, 3, 4] },
    // One layer alone saves nothing there: it keeps the place of the others that it computes again.
    { ...STEP_KINDS.at(-1)!, layers: [2, 3, 4, 5] },
  ];
  test.each(counts)('$name: the first layers are computed again, as many as it takes', async ({ create, layers }) => {
    const pocket = await FrozenModel.load(backend, readGguf('models/pocket/pocket.gguf'), WEIGHTS.f32);
    const { config } = pocket;
    const runs: Awaited<ReturnType<typeof after>>[] = [];
    for (const again of ['kept', ...layers.map((count) => `recomputed in ${count} of 5 layers`)]) {
      const memoryBytes = runs.length > 0 ? runs.at(-1)!.bytes - 1 : Number.POSITIVE_INFINITY;
      runs.push(await after(await create(pocket, { ...stepOptions(shape, config), memoryBytes }, 2), config));
      expect(runs.at(-1)!.description).toContain(`activations ${again}`);
      expect(runs.at(-1)!.results).toEqual(runs[0]!.results);
    }
    await pocket.dispose();
  });

  test.each(STEP_KINDS)('$name: what does not fit at all is refused with the plan', async ({ create }) => {
    const failure = { code: 'OUT_OF_MEMORY', message: expect.stringMatching(/needs .*weights .*; 1\.0 MiB may be used/) };
    await expect(create(model, { ...stepOptions(), memoryBytes: 1 << 20 })).rejects.toMatchObject(failure);
  });

  test.each([
    [1, 0],
    [2, 2],
  ])('the plan of %i workers needs no model', async (workers, recomputedLayers) => {
    const products = { provider: 'ggml', operandType: 'f32' } as const;
    const logitChunkBytes = stepOptions().logitChunkBytes;
    const sizes = { shape, prefixTokens: ROWS, frozenCount: 2, workers, products, logitChunkBytes };
    const weights = weightBytes(backend.engine, model.config, { forward: GgmlType.F32, transposed: GgmlType.F32 });
    expect(weights).toBe(model.byteLength);
    const planned = planReplica(model.config, { ...sizes, weightBytes: weights }, recomputedLayers);
    const step = await ReplicaStep.create(model, { ...stepOptions(), workers, products, memoryBytes: planned.bytes });
    expect(step.plan).toEqual(planned);
    expect(step.scratchBytes).toBe(ggmlScratchBytes(model.config, planned.shape, 'f32'));
    step.dispose();
  });
});

test.each([
  { gradientClip: 0, waits: 1 },
  { gradientClip: 1e9, waits: 2 },
])('an update with a gradient clip of $gradientClip waits $waits times for the workers', async ({ gradientClip, waits }) => {
  const products = { provider: 'ggml', operandType: 'f32' } as const;
  const after = async (clip: number) => {
    const step = await ReplicaStep.create(model, { ...stepOptions(), workers: 3, products, gradientClip: clip });
    await step.accumulate(packs([205, 180]));
    const posts = vi.spyOn(Worker.prototype, 'postMessage');
    const { gradientNorm } = await step.update(LEARNING_RATE);
    const messages = posts.mock.calls.length;
    posts.mockRestore();
    const result = { gradientNorm, state: await step.state() };
    step.dispose();
    return { messages, result };
  };
  const { messages, result } = await after(gradientClip);
  expect(messages).toBe(3 * waits);
  expect(result).toEqual((await after(1e8)).result);
});

test.each([true, false])('work is timed by kind when that is wanted: %s', async (profiles) => {
  const products = { provider: 'ggml', operandType: 'f32' } as const;
  const step = await ReplicaStep.create(model, { ...stepOptions(), workers: 2, products, profiles });
  await step.accumulate(packs([205, 180]));
  const profile = await step.takeProfile();
  expect(profile).toHaveLength(2);
  for (const times of profile) {
    expect(Object.keys(times)).toEqual(['linear', 'attention', 'rest', 'busy']);
    for (const milliseconds of Object.values(times)) expect(milliseconds > 0).toBe(profiles);
  }
  expect(await step.takeProfile()).toEqual(profile.map(() => ({ linear: 0, attention: 0, rest: 0, busy: 0 })));
  step.dispose();
});

describe.each(ALL_KINDS)('$name', ({ create, modelOf }) => {
  let step: TrainingStep;
  beforeAll(async () => {
    step = await create(modelOf(), { ...stepOptions(), gradientClip: 0.5 }, 2);
  });
  afterAll(() => step.dispose());

  test('packs add up, together or one after the other', async () => {
    const [first, second] = packs([205, 180, 150, 90]) as [ReturnType<typeof packs>[0], ReturnType<typeof packs>[0]];
    const together = await step.accumulate([first, second]);
    const gradients = await step.gradients();
    await step.restore(await step.state());
    const apart = [await step.accumulate([first]), await step.accumulate([second])];
    expect(apart[0]!.lossSum + apart[1]!.lossSum).toBeCloseTo(together.lossSum, 6);
    expect(relativeDifference((await step.gradients()).keys, gradients.keys)).toBeLessThan(1e-6);
    await step.restore(await step.state());
  });

  test('validation leaves rows and gradients alone', async () => {
    const contents = packs([205, 100, 80]);
    const before = await everything(step);
    const validation = await step.evaluate(contents);
    expect(await everything(step)).toEqual(before);
    const loss = await step.accumulate(contents);
    expect(validation).toEqual(loss);
    const gradients = await step.gradients();
    await step.evaluate(contents);
    expect(await step.gradients()).toEqual(gradients);
    await step.restore(await step.state());
  });

  test('a run that is continued is bit for bit the uninterrupted one', async () => {
    const contents = packs([205, 180, 150, 90, 60]);
    const start = await step.state();
    const updates = async (of: TrainingStep, count: number) => {
      for (let update = 0; update < count; update++) {
        await of.accumulate(contents);
        await of.update(LEARNING_RATE);
      }
    };
    await updates(step, 4);
    const uninterrupted = await everything(step);
    await step.restore(start);
    await updates(step, 2);
    const other = await create(modelOf(), { ...stepOptions(), gradientClip: 0.5 }, 2);
    await other.restore(await step.state());
    await updates(other, 2);
    expect(await everything(other)).toEqual(uninterrupted);
    other.dispose();
    await step.restore(start);
  });

  test('an update moves the rows that are not frozen, by a gradient of bounded norm', async () => {
    const start = await step.state();
    await expect(step.update(LEARNING_RATE)).rejects.toMatchObject({ code: 'INTERNAL' });
    await step.accumulate(packs([205, 180]));
    const { keys } = await step.gradients();
    const { gradientNorm } = await step.update(LEARNING_RATE);
    expect(gradientNorm).toBeGreaterThan(0);
    expect(largestMagnitude(keys[0]!)).toBeGreaterThan(0);
    const after = await step.state();
    const frozen = 2 * model.config.kvHeads * model.config.headDimension;
    expect(after.keys[1]!.subarray(0, frozen)).toEqual(start.keys[1]!.subarray(0, frozen));
    expect(largestDifference(after.keys[1]!, start.keys[1]!)).toBeGreaterThan(0);
    expect(largestMagnitude((await step.gradients()).keys[0]!)).toBe(0);
    await step.restore(start);
  });

  test('cancelling stops between packs, and the step goes on afterwards', async () => {
    const contents = packs([205, 180, 150, 90, 60]);
    await expect(step.accumulate(contents, AbortSignal.abort())).rejects.toMatchObject({ code: 'CANCELLED' });
    await step.restore(await step.state());
    expect((await step.accumulate(contents)).lossSum).toBeGreaterThan(0);
    await step.restore(await step.state());
  });

  test('no product runs in reference code', () => {
    if (!(step instanceof ReplicaStep)) return;
    expect(step.implementations.length).toBeGreaterThan(0);
    expect(step.implementations.filter((name) => /\bref\b/.test(name))).toEqual([]);
  });

  test('the event loop stays free', async ({ skip }) => {
    const real: PackShape = { slots: 4, slotTokens: 128, supervisedRows: 256, entriesPerRow: 3 };
    const { config } = model;
    const rows = normalRows(config, 512, new Random(3));
    const large = await create(modelOf(), { ...stepOptions(real), ...rows }, 2);
    const contents = packs([128, 128, 128, 128], real);
    const delayWhile = async (work: () => Promise<unknown>) => {
      const delay = monitorEventLoopDelay({ resolution: 1 });
      delay.enable();
      await work();
      delay.disable();
      return delay.percentile(99);
    };
    const quiet = await delayWhile(() => setTimeout(500));
    const busy = await delayWhile(async () => {
      for (let index = 0; index < 12; index++) {
        await large.accumulate(contents);
        await large.update(LEARNING_RATE);
      }
    });
    large.dispose();
    skip(quiet > ALLOWED_DELAY, 'other programs delay a process that does nothing too');
    expect(busy).toBeLessThan(ALLOWED_DELAY);
  });

  test('no call holds up the event loop, however large the cartridge', async () => {
    const tiny: PackShape = { slots: 1, slotTokens: 2, supervisedRows: 1, entriesPerRow: 3 };
    const large = await create(modelOf(), { ...stepOptions(tiny), ...zeroRows(16_384) }, 2);
    const contents = packs([2, 2], tiny);
    const calls: Record<string, () => Promise<unknown>> = {
      accumulate: () => large.accumulate(contents),
      update: () => large.update(LEARNING_RATE),
      evaluate: () => large.evaluate(contents),
      'state and restore': async () => large.restore(await large.state()),
    };
    const shares: Record<string, number> = {};
    for (let round = 0; round < 3; round++) {
      for (const [name, call] of Object.entries(calls)) shares[name] = Math.min(shares[name] ?? 1, await delayedShare(call));
    }
    large.dispose();
    // The lowest of the rounds: other programs delay one of them, the step itself would delay all.
    for (const [name, share] of Object.entries(shares)) expect(share, name).toBeLessThan(0.01);
  });
});

test.each(STEP_KINDS)('ten thousand steps of the $name leave no memory behind', async ({ create }) => {
  const tiny: PackShape = { slots: 1, slotTokens: 2, supervisedRows: 1, entriesPerRow: 3 };
  const step = await create(model, { ...stepOptions(tiny), logitChunkBytes: 0 }, 2);
  const contents = packs([2], tiny);
  const run = async (count: number) => {
    for (let index = 0; index < count; index++) {
      await step.accumulate(contents);
      await step.update(LEARNING_RATE);
    }
  };
  // Until then heaps grow to their usual size.
  await run(2_000);
  const before = process.memoryUsage.rss();
  await run(8_000);
  expect(process.memoryUsage.rss() - before).toBeLessThan(ALLOWED_GROWTH);
  step.dispose();
});
