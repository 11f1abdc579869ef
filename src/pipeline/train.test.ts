import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { copyOneDnn } from '../../test/support/onednn-copy.js';
import { sha256 } from '../core/hashing.js';
import type { ProgressEvent } from '../core/progress.js';
import { findOneDnn } from '../native/onednn/library.js';
import type { Conversation } from '../self-study/conversation.js';
import { encodeNative } from '../self-study/dataset/native-format.js';
import type { TokenizedCorpus } from './corpus-source.js';
import { ModelSession } from './model-session.js';
import { resolveSettings } from './resolve-settings.js';
import type { SettingsInput } from './settings.js';
import { type TrainCartridgeOptions, type TrainedCartridge, trainCartridge } from './train.js';

const TEXT = 'The harbour of Pouclal has a lamp. The lamp is lit at night, and the keeper sleeps by day.';
const corpus: TokenizedCorpus = { name: 'notes', documents: [], text: TEXT, contentHash: sha256(TEXT), tokens: 64 };
const TRAINING = {
  step: 'graph',
  weightType: 'f32',
  steps: 4,
  tokens: 16,
  loss: 'next-token',
  batchTokens: 60,
  packTokens: 96,
  checkpointEverySteps: 1,
} as const;

let session: ModelSession;
let folder: string;
let dataset: string;
beforeAll(async () => {
  session = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
});
afterAll(() => session.dispose());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'train-cartridge-'));
  dataset = await writeDataset('short', 1);
});
afterEach(() => rm(folder, { recursive: true }));

/** Twenty conversations whose answers repeat a sentence so many times. */
async function writeDataset(name: string, sentences: number): Promise<string> {
  const conversations = Array.from({ length: 20 }, (_, index): Conversation => {
    const content = Array.from({ length: sentences + (index % 2) }, () => `The lamp number ${index} is lit at night.`).join(' ');
    const tokenIds = Int32Array.from([...session.tokenizer.encode(content), ...session.framing.endOfTurnTokens]);
    const messages = [
      { role: 'user', content: `What is said of lamp ${index}?` } as const,
      { role: 'assistant', content, tokenIds } as const,
    ];
    return { id: String(index), messages, systemPrompt: '', type: 'question', metadata: { seedPrompt: '' } };
  });
  const path = join(folder, `${name}.parquet`);
  await writeFile(path, encodeNative(conversations));
  return path;
}

interface Run extends Partial<Pick<TrainCartridgeOptions, 'dataset' | 'resume' | 'session'>> {
  training?: SettingsInput['training'];
  /** Stops the run after so many steps. */
  stopAfter?: number;
}

/** A run in the one folder. */
function run({ training, stopAfter, ...changes }: Run = {}): Promise<TrainedCartridge> {
  const settings = resolveSettings({ training: { ...TRAINING, ...training } });
  const controller = new AbortController();
  const onProgress = (event: ProgressEvent) => {
    if (event.kind === 'progress' && event.stage === 'train' && event.done === stopAfter) controller.abort();
  };
  const { signal } = controller;
  return trainCartridge({ session, corpus, settings, dataset, folder: join(folder, 'run'), onProgress, signal, ...changes });
}

/** A run that is stopped, and leaves a checkpoint. */
async function stopped(changes: Run = {}): Promise<void> {
  await expect(run({ ...changes, stopAfter: 2 })).rejects.toMatchObject({ code: 'CANCELLED' });
}

const readPlan = () => JSON.parse(readFileSync(join(folder, 'run', 'plan.json'), 'utf8'));

describe('a run that is continued', () => {
  test('keeps its plan, and ends as one that was not stopped', async () => {
    const whole = await run();
    await stopped();
    const { result } = await run({ resume: true });
    expect(result).toEqual(whole.result);
  });

  test('is planned anew when the one before is over', async () => {
    const first = await run();
    await first.discardCheckpoint();
    const { result } = await run({ resume: true, training: { steps: 6 } });
    expect(result.steps).toBe(6);
  });

  test('is planned anew for other conversations, when nothing was computed', async () => {
    await run();
    await rm(join(folder, 'run', 'checkpoint.safetensors'));
    const longer = await writeDataset('longer', 6);
    const { result } = await run({ resume: true, dataset: longer });
    expect(result.steps).toBe(4);
  });

  test('is refused with other settings or conversations, and stays as it was', async () => {
    await stopped();
    const plan = readPlan();
    const longer = await writeDataset('longer', 6);
    await expect(run({ resume: true, dataset: longer })).rejects.toMatchObject({
      code: 'SETTINGS_CHANGED',
      message: expect.stringContaining('another dataset'),
    });
    await expect(run({ resume: true, training: { steps: 6 } })).rejects.toMatchObject({
      code: 'SETTINGS_CHANGED',
      message: expect.stringContaining('another training.steps'),
    });
    expect(readPlan()).toEqual(plan);
    expect((await run({ resume: true })).result.steps).toBe(4);
  });
});

test('a run of the graph step is not continued with another number of threads, which adds up gradients otherwise', async () => {
  const two = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 2 });
  await stopped();
  await expect(run({ resume: true, session: two })).rejects.toMatchObject({
    code: 'SETTINGS_CHANGED',
    message: expect.stringContaining('another lanes'),
  });
  await two.dispose();
});

test('conversations are cut where the context ends behind the rows of the cartridge', async () => {
  const long = await writeDataset('long', 40);
  const shapes: unknown[] = [];
  const onProgress = (event: ProgressEvent) => event.kind === 'start' && shapes.push(event.message);
  const training = { ...TRAINING, tokens: 1792, initializer: 'random', steps: 1 } as const;
  const settings = resolveSettings({ training });
  await trainCartridge({ session, corpus, settings, dataset: long, folder: join(folder, 'run'), onProgress });
  // The pocket model reads 2,048 tokens.
  expect(shapes).toContainEqual(expect.stringMatching(/^1792 rows, 1 steps of \d+ packs of \d × 256 tokens/));
});

const REPLICA = { step: 'replica', products: 'ggml' } as const;

test('the plan does not depend on the number of workers, and the result but for rounding', async () => {
  const one = await run({ training: { ...REPLICA, workers: 1 } });
  const { identity: _, ...plan } = readPlan();
  const five = await run({ training: { ...REPLICA, workers: 5 } });
  expect(readPlan()).toMatchObject(plan);
  expect(five.result.supervisedTokens).toBe(one.result.supervisedTokens);
  expect(five.result.validationKl).toBeCloseTo(one.result.validationKl, 3);
});

test('the line that training begins with says how full packs are', async () => {
  const messages: string[] = [];
  const settings = resolveSettings({ training: TRAINING });
  const onProgress = (event: ProgressEvent) => event.kind === 'start' && messages.push(event.message ?? '');
  await trainCartridge({ session, corpus, settings, dataset, folder: join(folder, 'run'), onProgress });
  expect(messages).toContainEqual(expect.stringMatching(/^16 rows, 4 steps of \d+ packs of \d+ × \d+ tokens, \d+ % filled$/));
});

const search = findOneDnn();
const oneDnn = search.state === 'found' && search.library.path.includes('/') ? search.library : undefined;

test.skipIf(!oneDnn)(
  'a run is not continued with another release of oneDNN (needs oneDNN as a file)',
  async () => {
    const withOneDnn = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
    const changes = { session: withOneDnn, training: { step: 'replica', products: 'onednn' } } as const;
    await stopped(changes);
    vi.stubEnv('CARTRIDGES_ONEDNN', copyOneDnn(oneDnn!, join(folder, 'libdnnl.so'), '3.99.0'));
    await expect(run({ ...changes, resume: true })).rejects.toMatchObject({
      code: 'SETTINGS_CHANGED',
      message: expect.stringContaining('another products'),
    });
    vi.unstubAllEnvs();
    const { cartridge } = await run({ ...changes, resume: true });
    expect(cartridge.receipt['training']).toMatchObject({ products: `oneDNN ${oneDnn!.version}` });
    await withOneDnn.dispose();
  },
  120_000,
);
