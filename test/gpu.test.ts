import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { LanguageModel } from '../src/inference/language-model.js';
import { logitsOf } from '../src/inference/score.js';
import { FrozenModel } from '../src/models/frozen-model.js';
import { readGguf } from '../src/models/gguf.js';
import { listDevices } from '../src/native/devices.js';
import { loadEngine } from '../src/native/engine.js';
import { GgmlType } from '../src/native/ggml.js';
import { quantize } from '../src/native/tensor-types.js';
import { timePacks } from '../src/pipeline/loop-plan.js';
import { Backend } from '../src/tensor/backend.js';
import { CompiledGraph } from '../src/tensor/compiled-graph.js';
import { EXACT_ENOUGH, PRODUCT_TYPES } from '../src/tensor/device-profile.js';
import { Graph } from '../src/tensor/graph.js';
import { TensorStore } from '../src/tensor/tensor-store.js';
import { GraphStep } from '../src/training/graph-step.js';
import { goldenCartridge } from './support/cartridges.js';
import { cosine, goldenNames, largestDifference, readGolden, rowsByLayer } from './support/golden.js';
import { goldenPack, goldenStepOptions } from './support/golden-pack.js';
import { watchRefusedOperations } from './support/refused-operations.js';

/**
 * The golden numbers on a GPU, within what its arithmetic keeps of them: products of a GPU may round their operands to f16. A
 * machine without one skips them. Mesa's software device is enough: the package of the Vulkan backend, Debian's
 * mesa-vulkan-drivers, and GGML_VK_VISIBLE_DEVICES=0.
 */
const TOLERANCE = { logits: 0.05, loss: 2e-3, cosine: 0.999, adamLoss: 0.01 };
/** A software device takes a second for each. */
const ADAM_STEPS = 3;
/** A software device compiles each shader when it first meets it, which takes a slow machine more than a minute. */
const FIRST_STEP_MS = 300_000;
const gpu = listDevices(loadEngine()).find(({ kind }) => kind === 'gpu');
/** Those that training may choose. */
const WEIGHT_TYPES = Object.entries(PRODUCT_TYPES).filter(([name]) => EXACT_ENOUGH.includes(name));

if (!gpu) test.skip('a GPU gives the golden numbers (there is no GPU here, or no package of a backend for it)', () => {});

describe.runIf(gpu).each(goldenNames())('%s on a GPU', (name) => {
  const golden = readGolden(name);
  const { rows } = golden.cartridge;

  describe.each(WEIGHT_TYPES)('training with weights in %s', (_, type) => {
    let backend: Backend;
    let model: FrozenModel;
    let step: GraphStep;
    let refused: string[];
    beforeAll(async () => {
      backend = new Backend({ device: gpu!.name, threads: 1 });
      refused = watchRefusedOperations(backend);
      model = await FrozenModel.load(backend, readGguf(golden.path), { forward: type, transposed: type });
      step = new GraphStep(model, goldenStepOptions(golden, 'token-mean'));
      await timePacks(step, [goldenPack(golden)]);
    }, FIRST_STEP_MS);
    afterAll(async () => {
      vi.restoreAllMocks();
      step.dispose();
      await model.dispose();
      backend.dispose();
    });

    test('no operation is left to the processor', () => {
      expect(refused).toEqual([]);
    });

    test('the plan counts intermediate results', () => {
      expect(step.plan.description).toMatch(/intermediate results [1-9][\d.]* [KMG]iB/);
    });

    test('loss and gradients', async () => {
      const { lossSum, normalizer } = await step.accumulate([goldenPack(golden)]);
      expect(Math.abs(lossSum / normalizer - golden.losses.token_mean!)).toBeLessThan(TOLERANCE.loss);
      const gradients = await step.gradients();
      for (const part of ['keys', 'values'] as const) {
        const expected = rowsByLayer(golden, `gradient.token_mean.${part}`, rows).flatMap((layer) => [...layer]);
        const found = gradients[part].flatMap((layer) => [...layer]);
        expect(cosine(found, expected)).toBeGreaterThan(TOLERANCE.cosine);
      }
    });

    test('Adam steps', async () => {
      await step.restore(await step.state());
      const losses: number[] = [];
      for (let update = 0; update < ADAM_STEPS; update++) {
        const { lossSum, normalizer } = await step.accumulate([goldenPack(golden)]);
        losses.push(lossSum / normalizer);
        await step.update(golden.adam.learning_rate);
      }
      const expected = golden.adam.token_mean.losses;
      losses.forEach((loss, update) => {
        expect(Math.abs(loss / expected[update]! - 1)).toBeLessThan(TOLERANCE.adamLoss);
      });
    });
  });

  test('logits behind a cartridge from libllama', async () => {
    const model = await LanguageModel.load({ modelPath: golden.path, device: gpu!.name, threads: 1 });
    const engine = await model.createContext({ contextTokens: 256, maxRequests: 2, cacheType: 'f32', flashAttention: false });
    const handle = await engine.loadCartridge(goldenCartridge(golden, 'cartridge', rows));
    const first = Int32Array.from(golden.pack.tokens.filter((_, index) => golden.pack.segments[index] === 0));
    const logits = await logitsOf(engine, first, { cartridges: [handle] });
    const expected = golden.tensors['pack.logits']!.subarray(0, logits.length);
    expect(largestDifference(logits, expected)).toBeLessThan(name.includes('q8_0') ? 0.3 : TOLERANCE.logits);
    await model.dispose();
  });
});

describe.runIf(gpu)('products with frozen weights on a GPU', () => {
  let backend: Backend;
  beforeAll(() => {
    backend = new Backend({ device: gpu!.name, threads: 1 });
  });
  afterAll(() => backend.dispose());

  test.each(Object.entries(PRODUCT_TYPES))(
    'have sums in %s that are more than f16 can hold',
    async (_, type) => {
      const [inputs, outputs, tokens, value] = [4096, 64, 32, 5];
      const weights = new TensorStore(backend, 1);
      const weight = weights.declare(type, inputs, outputs);
      weights.allocate('a test');
      weights.write(weight, quantize(backend.engine, type, new Float32Array(inputs * outputs).fill(value), inputs));
      const others = new TensorStore(backend, 1);
      const x = others.declare(GgmlType.F32, inputs, tokens);
      others.allocate('a test');
      others.write(x, new Float32Array(inputs * tokens).fill(value));
      const graph = new Graph(backend);
      const product = graph.linear({ weight }, graph.constant(x)).handle;
      const compiled = new CompiledGraph(graph, [product]);
      await compiled.compute();
      const sums = compiled.read(product, new Float32Array(outputs * tokens));
      compiled.dispose();
      others.dispose();
      weights.dispose();
      for (const sum of sums) expect(sum / (inputs * value * value)).toBeCloseTo(1, 2);
    },
    FIRST_STEP_MS,
  );
});
