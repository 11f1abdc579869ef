import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageRoot } from '../src/core/package.js';
import { readQuestions } from '../src/evaluation/questions.js';
import { EXACT_WEIGHTS, FrozenModel } from '../src/models/frozen-model.js';
import type { KeyValueRows } from '../src/models/run-forward.js';
import { GgmlType } from '../src/native/ggml.js';
import { ModelSession } from '../src/pipeline/model-session.js';
import type { TrainingExample } from '../src/training/examples.js';
import { choosePackShape } from '../src/training/packing.js';
import { train } from '../src/training/train.js';
import { distilledExamples, firstRows } from './support/distilled-examples.js';
import { BF16_OPERANDS, STEP_KINDS, type StepKind } from './support/training-steps.js';

/** A whole run must end no worse than the exact one, whoever multiplies: this much of its divergence is rounding. */
const ALLOWED = 1.01;
const CONVERSATIONS = 40;
const HELD_OUT = 8;
const ROWS = 32;
const STEPS = 24;
const folder = join(packageRoot, 'examples', 'corpora', 'harbour');

let session: ModelSession;
let exact: FrozenModel;
let examples: TrainingExample[];
let rows: KeyValueRows;
let expected: { before: number; after: number };

beforeAll(async () => {
  session = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
  exact = await FrozenModel.load(session.backend, session.gguf, EXACT_WEIGHTS);
  const questions = await readQuestions(join(folder, 'questions.jsonl'));
  const turns = questions
    .flatMap(({ question, reference }) => (reference === undefined ? [] : [{ question, answer: reference }]))
    .slice(0, CONVERSATIONS);
  const text = readFileSync(join(folder, 'corpus.txt'), 'utf8');
  const distilled = await distilledExamples(exact, session.framing, text, turns);
  examples = distilled.examples;
  rows = firstRows(distilled.textRows, exact.config, ROWS);
  expected = await divergences(STEP_KINDS[0]!, exact);
});
afterAll(async () => {
  await exact.dispose();
  await session.dispose();
});

/** The divergence from the teacher on conversations that training does not see, before and after a run. */
async function divergences({ create }: StepKind, model: FrozenModel): Promise<{ before: number; after: number }> {
  const shape = choosePackShape(examples, 128);
  const step = await create(model, { shape, ...rows, frozenCount: 1 });
  const [validation, training] = [examples.slice(0, HELD_OUT), examples.slice(HELD_OUT)];
  const schedule = { learningRate: 0.02, warmupSteps: 2, decay: 'cosine', finalShare: 0.05 } as const;
  const settings = { ...schedule, seed: 0, packsPerStep: 2, validateEverySteps: 0, checkpointEverySteps: 0 };
  const run = (steps: number) => train({ step, shape, training, validation, settings: { ...settings, steps } });
  const [before, after] = [await run(0), await run(STEPS)];
  step.dispose();
  return { before: before.validationKl, after: after.validationKl };
}

test('the run to compare with learns', () => {
  expect(expected.after).toBeLessThan(expected.before * 0.8);
});

test.each(STEP_KINDS.slice(1))('a run with the $name ends where the exact one does', async (kind) => {
  const found = await divergences(kind, exact);
  report(kind, found.after);
  expect(found.before).toBeCloseTo(expected.before, 4);
  expect(found.after).toBeLessThan(expected.after * ALLOWED);
});

test(`a run with the ${BF16_OPERANDS.name} ends no worse`, async () => {
  const rounded = await FrozenModel.load(session.backend, session.gguf, { forward: GgmlType.BF16, transposed: GgmlType.BF16 });
  const found = await divergences(BF16_OPERANDS, rounded);
  await rounded.dispose();
  report(BF16_OPERANDS, found.after);
  expect(found.after).toBeLessThan(expected.after * ALLOWED);
});

function report({ name }: StepKind, divergence: number): void {
  const [of, before] = [expected.after, expected.before].map((value) => value.toFixed(4));
  console.info(`${name}: validation divergence ${divergence.toFixed(4)}, exact run ${of}, before training ${before}`);
}
