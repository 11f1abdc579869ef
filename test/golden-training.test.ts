import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EXACT_WEIGHTS, FrozenModel } from '../src/models/frozen-model.js';
import { readGguf } from '../src/models/gguf.js';
import { readModelConfig } from '../src/models/model-config.js';
import { type KeyValueRows, runForward } from '../src/models/run-forward.js';
import { GgmlType } from '../src/native/ggml.js';
import { Backend } from '../src/tensor/backend.js';
import type { LossKind, TrainingStep } from '../src/training/training-step.js';
import { cosine, goldenNames, largestDifference, largestMagnitude, readGolden, rowsByLayer } from './support/golden.js';
import { goldenPack, goldenStepOptions } from './support/golden-pack.js';
import { BF16_KINDS, LACKING_KINDS, STEP_KINDS, type StepKind } from './support/training-steps.js';

const TOLERANCE = { logits: 1e-4, loss: 1e-5, gradient: 1e-5, adamLoss: 1e-4, adamRows: 1e-3, cosine: 0.999 };
const KINDS: { kind: LossKind; name: 'token_mean' | 'entry_mean' }[] = [
  { kind: 'token-mean', name: 'token_mean' },
  { kind: 'entry-mean', name: 'entry_mean' },
];

const backend = new Backend({ device: 'cpu', threads: 1 });
afterAll(() => backend.dispose());
test.skip.each(LACKING_KINDS)('$name: $reason', () => {});

describe.each(goldenNames())('%s', (name) => {
  const golden = readGolden(name);
  const { rows } = golden.cartridge;
  let model: FrozenModel;
  beforeAll(async () => {
    model = await FrozenModel.load(backend, readGguf(golden.path), EXACT_WEIGHTS);
  });
  afterAll(() => model.dispose());

  const newStep = ({ create }: StepKind, kind: LossKind, of = model) => create(of, goldenStepOptions(golden, kind));

  test('reads the configuration from the GGUF', () => {
    expect(readModelConfig(readGguf(golden.path))).toMatchObject({
      architecture: golden.model.architecture,
      layers: golden.model.layers,
      embedding: golden.model.embedding,
      heads: golden.model.heads,
      kvHeads: golden.model.kv_heads,
      headDimension: golden.model.head_dim,
      feedForward: golden.model.feed_forward,
      vocabularySize: golden.model.vocab,
      ropeBase: golden.model.rope_base,
      tiedEmbeddings: golden.model.tied_embeddings,
      traits: {
        ropePairs: golden.model.rope_style === 'norm' ? 'neighbours' : 'halves',
        attentionBias: golden.model.qkv_bias,
        headNorm: golden.model.qk_norm,
      },
    });
  });

  test('logits, keys and values of a text without a prefix', async () => {
    const { token_ids: tokens, positions } = golden.text;
    const result = await forward(model, tokens, positions);
    expect(largestDifference(result.logits, golden.tensors['text.logits']!)).toBeLessThan(TOLERANCE.logits);
    for (const kind of ['keys', 'values'] as const) {
      const expected = rowsByLayer(golden, `text.${kind}`, tokens.length);
      result[kind].forEach((layer, index) => {
        expect(largestDifference(layer, expected[index]!)).toBeLessThan(TOLERANCE.logits);
      });
    }
  });

  test('logits of two conversations behind a cartridge', async () => {
    const { tokens, positions, segments } = golden.pack;
    const prefix = { keys: rowsByLayer(golden, 'cartridge.keys', rows), values: rowsByLayer(golden, 'cartridge.values', rows) };
    const { logits } = await forward(model, tokens, positions, prefix, segments);
    expect(largestDifference(logits, golden.tensors['pack.logits']!)).toBeLessThan(TOLERANCE.logits);
  });

  test.each([
    ['as they are', 'keys', 'compose.logits'],
    ['with rotated keys', 'rotated_keys', 'compose.rotated_logits'],
  ])('logits behind two cartridges, %s', async (_how, keyTensor, expected) => {
    const second = golden.compose.rows[1];
    const join = (a: Float32Array[], b: Float32Array[]) => a.map((layer, index) => Float32Array.from([...layer, ...b[index]!]));
    const prefix = {
      keys: join(rowsByLayer(golden, 'cartridge.keys', rows), rowsByLayer(golden, `compose.second.${keyTensor}`, second)),
      values: join(rowsByLayer(golden, 'cartridge.values', rows), rowsByLayer(golden, 'compose.second.values', second)),
    };
    const { logits } = await forward(model, golden.compose.tokens, golden.compose.positions, prefix);
    expect(largestDifference(logits, golden.tensors[expected]!)).toBeLessThan(TOLERANCE.logits);
  });

  const cases = STEP_KINDS.flatMap((stepKind) => KINDS.map((loss) => ({ ...loss, stepKind, step: stepKind.name })));
  describe.each(cases)('$step, $kind loss', ({ kind, name: golden_name, stepKind }) => {
    let step: TrainingStep;
    beforeAll(async () => {
      step = await newStep(stepKind, kind);
    });
    afterAll(() => step.dispose());

    test('value, divergence and every gradient', async () => {
      const { lossSum, klSum, normalizer } = await step.accumulate([goldenPack(golden)]);
      expect(Math.abs(lossSum / normalizer - golden.losses[golden_name]!)).toBeLessThan(TOLERANCE.loss);
      expect(Math.abs(klSum / normalizer - golden.losses[`${golden_name}_kl`]!)).toBeLessThan(TOLERANCE.loss);
      const validation = await step.evaluate([goldenPack(golden)]);
      expect(Math.abs(validation.lossSum - lossSum)).toBeLessThan(TOLERANCE.loss * normalizer);
      const gradients = await step.gradients();
      for (const part of ['keys', 'values'] as const) {
        const expected = rowsByLayer(golden, `gradient.${golden_name}.${part}`, rows);
        const largest = Math.max(...expected.map(largestMagnitude));
        gradients[part].forEach((layer, index) => {
          const mean = layer.map((value) => value / normalizer);
          expect(largestDifference(mean, expected[index]!) / largest).toBeLessThan(TOLERANCE.gradient);
        });
      }
    });

    test('ten Adam steps', async () => {
      await step.restore(await step.state());
      const losses: number[] = [];
      const loss = async () => {
        const { lossSum, normalizer } = await step.accumulate([goldenPack(golden)]);
        losses.push(lossSum / normalizer);
      };
      for (let update = 0; update < golden.adam.steps; update++) {
        await loss();
        await step.update(golden.adam.learning_rate);
      }
      await loss();
      const expected = [...golden.adam[golden_name].losses, golden.adam[golden_name].loss_after];
      expect(largestDifference(losses, expected)).toBeLessThan(TOLERANCE.adamLoss);
      for (const part of ['keys', 'values'] as const) {
        const expectedRows = rowsByLayer(golden, `adam.${golden_name}.${part}`, rows);
        (await step.state())[part].forEach((layer, index) => {
          expect(largestDifference(layer, expectedRows[index]!)).toBeLessThan(TOLERANCE.adamRows);
        });
      }
    });
  });

  // oneDNN takes weights of the type of its operands only: it has its own cases, where the processor has bf16.
  const rounding = STEP_KINDS.filter(({ name: step }) => !step.includes('oneDNN')).flatMap((stepKind) => [
    { step: stepKind.name, stepKind, typeName: 'BF16', type: GgmlType.BF16 },
    { step: stepKind.name, stepKind, typeName: 'F16', type: GgmlType.F16 },
  ]);
  rounding.push(...BF16_KINDS.map((stepKind) => ({ step: stepKind.name, stepKind, typeName: 'BF16', type: GgmlType.BF16 })));
  test.each(rounding)('$step: the gradient keeps its direction with $typeName products', async ({ stepKind, type }) => {
    const rounded = await FrozenModel.load(backend, readGguf(golden.path), { forward: type, transposed: type });
    const step = await newStep(stepKind, 'token-mean', rounded);
    await step.accumulate([goldenPack(golden)]);
    const gradients = await step.gradients();
    for (const part of ['keys', 'values'] as const) {
      const expected = rowsByLayer(golden, `gradient.token_mean.${part}`, rows).flatMap((layer) => [...layer]);
      expect(
        cosine(
          gradients[part].flatMap((layer) => [...layer]),
          expected,
        ),
      ).toBeGreaterThan(TOLERANCE.cosine);
    }
    step.dispose();
    await rounded.dispose();
  });
});

function forward(model: FrozenModel, tokens: number[], positions: number[], prefix?: KeyValueRows, segments?: number[]) {
  return runForward(model, {
    tokens: Int32Array.from(tokens),
    positions: Int32Array.from(positions),
    wantLogits: true,
    ...(prefix && { prefix }),
    ...(segments && { segments: Int32Array.from(segments) }),
  });
}
