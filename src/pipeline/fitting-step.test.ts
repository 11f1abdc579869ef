import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { normalRows } from '../cartridge/initializers/random-rows.js';
import { formatBytes } from '../core/format-bytes.js';
import type { ProgressEvent } from '../core/progress.js';
import { Random } from '../core/random.js';
import { GgmlType } from '../native/ggml.js';
import type { PackShape } from '../training/pack.js';
import { createFittingStep } from './fitting-step.js';
import { ModelSession } from './model-session.js';
import { resolveSettings } from './resolve-settings.js';
import type { StepChoice } from './training-step-choice.js';

const large: PackShape = { slots: 4, slotTokens: 256, supervisedRows: 256, entriesPerRow: 3 };
const small: PackShape = { slots: 1, slotTokens: 64, supervisedRows: 16, entriesPerRow: 3 };
const replica: StepChoice = {
  step: 'replica',
  products: { provider: 'ggml', operandType: 'f32' },
  workers: 1,
  weightType: 'f32',
  weights: { forward: GgmlType.F32, transposed: GgmlType.F32 },
};

let session: ModelSession;
beforeAll(async () => {
  session = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
});
afterAll(() => session.dispose());

async function create(choice: StepChoice, shapes: [PackShape, ...PackShape[]], memory?: number | string) {
  const messages: string[] = [];
  const { step, shape } = await createFittingStep({
    session,
    settings: resolveSettings({ training: { weightType: 'f32', ...(memory !== undefined && { memory }) } }),
    choice,
    initialRows: { compute: async () => normalRows(session.config, 16, new Random(1)) },
    shapes,
    onProgress: (event: ProgressEvent) => event.stage === 'train' && 'message' in event && messages.push(event.message ?? ''),
  });
  step.dispose();
  return { shape, plan: step.plan, messages };
}

test.each<[string, StepChoice]>([
  ['graph', { step: 'graph' }],
  ['replica', replica],
])('the %s step takes smaller packs when the wanted ones do not fit', async (_name, choice) => {
  const free = await create(choice, [large, small]);
  expect(free.shape).toBe(large);
  const least = await create(choice, [small]);
  const { fileSize } = session.gguf;
  // Rows of five layers, keys and values of two heads of 64 in f32: the best ones, and a checkpoint with two moments.
  const kept = 4 * (16 * 5 * 2 * 2 * 64 * 4);
  const beside = kept + fileSize;
  const tight = await create(choice, [large, small], least.plan.bytes + beside);
  expect(tight.shape).toBe(small);
  expect(tight.plan).toEqual(least.plan);
  expect(tight.messages[0]).toContain('1 × 64 tokens in place of 4 × 256');
  expect(tight.messages[1]).toContain(`memory planned ${formatBytes(least.plan.bytes + beside)}, activations kept: weights`);
  expect(tight.messages[1]).toContain(`best rows and checkpoint ${formatBytes(kept)}`);
  expect(tight.messages[1]).toContain(`libllama's copy of the model ${formatBytes(fileSize)}`);
  // With a byte less, keeping all activations would take one of the copy's.
  const tighter = await create(choice, [small], least.plan.bytes + beside - 1);
  expect(tighter.plan.choice).toContain('recomputed');
  await expect(create(choice, [large, small], '20 MiB')).rejects.toMatchObject({
    code: 'OUT_OF_MEMORY',
    message: expect.stringContaining(`may be used, beside ${formatBytes(fileSize)} for libllama's copy of the model`),
  });
});

test('the student that is loaded already takes no room from the next step', async () => {
  const available = vi.spyOn(process, 'availableMemory');
  const first = await create(replica, [large]);
  const free = session.gguf.fileSize + (first.plan.bytes * 1.1 + 1e6) / 0.75;
  available.mockReturnValue(free - session.studentBytes);
  expect((await create(replica, [large])).plan.choice).toBe('activations kept');
  available.mockReturnValue(free - 2 * session.studentBytes);
  await expect(create(replica, [large]).then(({ plan }) => plan.choice)).resolves.toContain('recomputed');
  available.mockRestore();
});

test('weights alone that do not fit are refused before they are loaded', async () => {
  const unloaded = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
  const settings = resolveSettings({ training: { memory: '1MiB' } });
  const initialRows = { compute: () => expect.unreachable() };
  await expect(
    createFittingStep({ session: unloaded, settings, choice: replica, initialRows, shapes: [small] }),
  ).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' });
  await unloaded.dispose();
});
