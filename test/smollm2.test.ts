import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { initializeRows } from '../src/cartridge/initializers/initialize.js';
import { Random } from '../src/core/random.js';
import { FrozenModel } from '../src/models/frozen-model.js';
import type { KeyValueRows } from '../src/models/run-forward.js';
import { ModelSession } from '../src/pipeline/model-session.js';
import type { Conversation } from '../src/self-study/conversation.js';
import { Backend } from '../src/tensor/backend.js';
import { PRODUCT_TYPES, type ProductTypeName } from '../src/tensor/device-profile.js';
import { makeExamples, type TrainingExample } from '../src/training/examples.js';
import { GraphStep } from '../src/training/graph-step.js';
import { choosePackShape, packExamples } from '../src/training/packing.js';
import { train } from '../src/training/train.js';
import type { CartridgeGradients } from '../src/training/training-step.js';
import { cosine, largestDifference } from './support/golden.js';
import { HAS_SMOLLM2, SMOLLM2_NOTE, SMOLLM2_PATH } from './support/smollm2.js';
import { BF16_KINDS, LACKING_KINDS, STEP_KINDS, type StepKind } from './support/training-steps.js';

/** The least that the gradient may keep of its direction in a faster number type. */
const LEAST_COSINE = 0.999;
/** Losses of ten Adam steps in f32, whoever multiplies; in bf16 they may differ by a share. */
const SAME_LOSS = 1e-4;
const ALLOWED_LOSS_SHARE = 0.01;
const ROWS = 16;
const DEFAULT_SYSTEM_TEXT = 'You are a helpful AI assistant named SmolLM';
const QUESTIONS = [
  ['Who keeps the light of Fornholm?', 'Ada Brek keeps it.'],
  ['When was the light built?', 'It was built in 1871.'],
  ['How high is the tower?', 'The tower is 34 metres high.'],
  ['What colour is the door?', 'The door is green.'],
  ['Who paints the door?', 'Tom Brek paints it in May.'],
  ['What does the bell say?', 'The bell says: come home.'],
] as const;

describe.skipIf(!HAS_SMOLLM2)(`SmolLM2-135M${SMOLLM2_NOTE}`, () => {
  let cache: string;
  let backend: Backend;
  let session: ModelSession;
  let exact: FrozenModel;
  let rows: KeyValueRows;
  let examples: TrainingExample[];

  beforeAll(async () => {
    cache = mkdtempSync(join(tmpdir(), 'cartridges-smollm2-'));
    process.env['CARTRIDGES_CACHE'] = cache;
    backend = new Backend({ device: 'cpu', threads: 1 });
    session = await ModelSession.open({ model: SMOLLM2_PATH, device: 'cpu', threads: 1 });
    exact = await loadAs('f32');
    rows = await rowsOfUnrelatedText();
    examples = makeExamples(QUESTIONS.map(toConversation), session.framing, {
      targets: 'next-token',
      maxTokens: 64,
      vocabularySize: session.config.vocabularySize,
    }).examples;
  });
  afterAll(async () => {
    await exact.dispose();
    backend.dispose();
    await session.dispose();
    rmSync(cache, { recursive: true });
  });

  test('the default system text stays out behind a cartridge', () => {
    const { framing, tokenizer } = session;
    const read = (tokens: Int32Array) => tokenizer.decode(tokens, { special: true });
    const turns = [{ role: 'user' as const, content: QUESTIONS[0][0] }];
    expect(read(framing.encodeChat(turns, { addGenerationPrompt: true }))).toContain(DEFAULT_SYSTEM_TEXT);
    for (const bos of [true, false]) {
      const text = read(framing.encodeTurns(turns, { addGenerationPrompt: true, bos }));
      expect(text).toBe(`<|im_start|>user\n${QUESTIONS[0][0]}<|im_end|>\n<|im_start|>assistant\n`);
    }
    expect(read(examples[0]!.tokens)).toBe(
      `<|im_start|>user\n${QUESTIONS[0][0]}<|im_end|>\n<|im_start|>assistant\n${QUESTIONS[0][1]}<|im_end|>`,
    );
  });

  test('two steps lower the loss', async () => {
    const { step, packs, shape } = newStep(exact, examples);
    const schedule = { learningRate: 0.01, warmupSteps: 0, decay: 'none', finalShare: 1 } as const;
    const run = { seed: 0, steps: 2, packsPerStep: packs.length, validateEverySteps: 0, checkpointEverySteps: 0 };
    const losses: number[] = [];
    await train(
      { step, shape, training: examples, validation: [], settings: { ...schedule, ...run } },
      { onProgress: (event) => event.kind === 'progress' && losses.push(event.values!['loss']!) },
    );
    const { lossSum, normalizer } = await step.evaluate(packs);
    losses.push(lossSum / normalizer);
    console.info(`SmolLM2, loss of ${examples.length} conversations: ${losses.map((loss) => loss.toFixed(3)).join(', ')}`);
    expect(losses).toHaveLength(3);
    expect(losses[1]).toBeLessThan(losses[0]!);
    expect(losses[2]).toBeLessThan(losses[0]! * 0.95);
    step.dispose();
  });

  describe('beside the exact graph step', () => {
    const [reference, ...replicas] = STEP_KINDS as [StepKind, ...StepKind[]];
    let gradients: CartridgeGradients;
    let losses: number[];
    beforeAll(async () => {
      gradients = await gradientsOf(reference, exact);
      losses = await lossesOf(reference, exact);
    });

    test.each(replicas)('gradients and ten Adam steps of the $name', async (kind) => {
      expectDirection(kind.name, await gradientsOf(kind, exact), gradients);
      expect(largestDifference(await lossesOf(kind, exact), losses)).toBeLessThan(SAME_LOSS);
    });

    test('the gradient of the graph step with products in bf16', async () => {
      const rounded = await loadAs('bf16');
      expectDirection(`${reference.name}, bf16`, await gradientsOf(reference, rounded), gradients);
      await rounded.dispose();
    });

    test.skip.each(LACKING_KINDS)('$name: $reason', () => {});
    test.each(BF16_KINDS)('gradients and ten Adam steps of the $name', async (kind) => {
      const rounded = await loadAs('bf16');
      expectDirection(kind.name, await gradientsOf(kind, rounded), gradients);
      const last = (await lossesOf(kind, rounded)).at(-1)!;
      console.info(`SmolLM2, loss after ten steps: ${last.toFixed(5)} of the ${kind.name}, ${losses.at(-1)!.toFixed(5)} exact`);
      expect(Math.abs(last / losses.at(-1)! - 1)).toBeLessThan(ALLOWED_LOSS_SHARE);
      await rounded.dispose();
    });
  });

  function expectDirection(name: string, found: CartridgeGradients, expected: CartridgeGradients): void {
    for (const part of ['keys', 'values'] as const) {
      const flat = (layers: readonly Float32Array[]) => layers.flatMap((layer) => [...layer]);
      const kept = cosine(flat(found[part]), flat(expected[part]));
      console.info(`SmolLM2, ${name}: cosine of the gradient of ${part} with the exact one: ${kept.toFixed(7)}`);
      expect(kept).toBeGreaterThanOrEqual(LEAST_COSINE);
    }
  }

  const loadAs = (type: ProductTypeName) =>
    FrozenModel.load(backend, session.gguf, { forward: PRODUCT_TYPES[type], transposed: PRODUCT_TYPES[type] });

  const rowsOfUnrelatedText = () =>
    initializeRows({
      name: 'text',
      model: exact,
      framing: session.framing,
      tokenizer: session.tokenizer,
      corpusText: '',
      tokenCount: ROWS,
      random: new Random(1),
    });

  /** As a synthesis records it: the tokens of the answer end with the end of the turn. */
  function toConversation([question, answer]: readonly [string, string], index: number): Conversation {
    const { tokenizer, framing } = session;
    const tokenIds = Int32Array.from([...tokenizer.encode(answer), ...framing.endOfTurnTokens]);
    return {
      id: String(index),
      messages: [
        { role: 'user', content: question },
        { role: 'assistant', content: answer, tokenIds },
      ],
      systemPrompt: '',
      type: 'question',
      metadata: { seedPrompt: '' },
    };
  }

  function newStep(model: FrozenModel, learned: readonly TrainingExample[]) {
    const shape = choosePackShape(learned, 64);
    const step = new GraphStep(model, { shape, ...rows, frozenCount: 1, lanes: 1 });
    return { step, shape, packs: packExamples(learned, shape) };
  }

  async function compared(kind: StepKind, model: FrozenModel) {
    const learned = examples.slice(0, 1);
    const shape = choosePackShape(learned, 32);
    const step = await kind.create(model, { shape, ...rows, frozenCount: 1 });
    return { step, packs: packExamples(learned, shape) };
  }

  async function gradientsOf(kind: StepKind, model: FrozenModel): Promise<CartridgeGradients> {
    const { step, packs } = await compared(kind, model);
    await step.accumulate(packs);
    const gradients = await step.gradients();
    step.dispose();
    return gradients;
  }

  /** Before each of ten updates, and after the last. */
  async function lossesOf(kind: StepKind, model: FrozenModel): Promise<number[]> {
    const { step, packs } = await compared(kind, model);
    const losses: number[] = [];
    for (let update = 0; update <= 10; update++) {
      const { lossSum, normalizer } = await step.accumulate(packs);
      losses.push(lossSum / normalizer);
      if (update < 10) await step.update(0.002);
    }
    step.dispose();
    return losses;
  }
});
