import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { CartridgesError } from '../core/errors.js';
import { packageRoot } from '../core/package.js';
import type { ProgressEvent } from '../core/progress.js';
import { ChatFraming } from '../models/chat-framing.js';
import { type DatasetManifest, readManifest } from '../self-study/dataset/manifest.js';
import { buildCartridge, trainAndWrite } from './build.js';
import { loadCorpus, type TokenizedCorpus } from './corpus-source.js';
import { ModelSession } from './model-session.js';
import { resolveSettings } from './resolve-settings.js';
import { synthesizeDataset } from './synthesize.js';
import { measureTraining, trainCartridge } from './train.js';

vi.mock('./synthesize.js', { spy: true });
vi.mock('./train.js', { spy: true });

const folder = mkdtempSync(join(tmpdir(), 'cartridges-build-'));
const output = join(folder, 'notes.safetensors');
const corpus: TokenizedCorpus = { name: 'notes.txt', text: 'The lamp is lit.', tokens: 5, contentHash: 'a', documents: [] };
let session: ModelSession;

beforeAll(async () => {
  session = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
});
afterEach(() => vi.resetAllMocks());
afterAll(async () => {
  await session.dispose();
  rmSync(folder, { recursive: true });
});

const settings = resolveSettings({ outputFolder: join(folder, 'runs') });

test('what was loaded before counts towards the time limit', async () => {
  vi.mocked(trainCartridge).mockRejectedValue(new Error('enough'));
  const startedAt = performance.now() - 30_000;
  const bounded = { session, corpus, settings: { ...settings, minutes: 1 }, output, startedAt };
  await expect(trainAndWrite({ ...bounded, dataset: 'x', resume: false })).rejects.toThrow('enough');
  // A minute less a twentieth, of which half a minute is over.
  expect(vi.mocked(trainCartridge).mock.lastCall?.[0].maxSeconds).toBeCloseTo(27, 0);
});

test('self-study that becomes slow ends with a group, and a continued build takes what there is', async () => {
  const text = readFileSync(join(packageRoot, 'examples', 'corpora', 'harbour', 'corpus.txt'), 'utf8');
  writeFileSync(join(folder, 'harbour.txt'), text);
  const harbour = await loadCorpus(join(folder, 'harbour.txt'), session.tokenizer);
  const synthesis = { conversations: 5000, concurrency: 8 };
  const slow = resolveSettings({ outputFolder: join(folder, 'slow'), minutes: 0.2, synthesis });
  vi.mocked(measureTraining).mockResolvedValue(2e-5);
  vi.mocked(trainCartridge).mockRejectedValue(new Error('enough'));
  // The speed is measured without a listener, so only the build itself is slowed down.
  const onProgress = (event: ProgressEvent) => {
    if (event.kind === 'progress') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);
  };
  const build = { session, corpus: harbour, settings: slow, output };
  const startedAt = performance.now();
  await expect(buildCartridge({ ...build, onProgress })).rejects.toThrow('enough');
  expect(performance.now() - startedAt).toBeLessThan(15_000);
  const run = join(folder, 'slow', readdirSync(join(folder, 'slow'))[0] as string);
  const { counts, complete } = (await readManifest(join(run, 'dataset'))) as DatasetManifest;
  const plan = JSON.parse(readFileSync(join(run, 'plan.json'), 'utf8'));
  expect(plan).toMatchObject({ stoppedAt: counts.attempted });
  expect(complete).toBe(false);
  expect(counts.attempted % 8).toBe(0);
  expect(counts.attempted).toBeLessThan(plan.conversations / 2);

  vi.mocked(synthesizeDataset).mockClear();
  await expect(buildCartridge(build)).rejects.toThrow('enough');
  expect(synthesizeDataset).not.toHaveBeenCalled();
});

test('a build whose loss is not a number says how to use its conversations', async () => {
  const hint = 'the last checkpoint is kept and --resume continues from it';
  vi.mocked(synthesizeDataset).mockResolvedValue({} as never);
  vi.mocked(trainCartridge).mockRejectedValue(new CartridgesError('NON_FINITE_LOSS', 'the loss is NaN', { hint }));
  await expect(buildCartridge({ session, corpus, settings, output })).rejects.toMatchObject({
    code: 'NON_FINITE_LOSS',
    message: 'the loss is NaN',
    hint: expect.stringMatching(/^the conversations are kept: cartridges train \S+dataset takes them, with a lower --lr$/),
  });
});

test('a short text gets as many rows as the framing needs, in each stage', async () => {
  vi.spyOn(ChatFraming.prototype, 'systemFrameTokens', 'get').mockReturnValue(30);
  vi.mocked(synthesizeDataset).mockResolvedValue({} as never);
  vi.mocked(trainCartridge).mockRejectedValue(new Error('enough'));
  await expect(buildCartridge({ session, corpus, settings, output })).rejects.toThrow('enough');
  await expect(trainAndWrite({ session, corpus, settings, output, dataset: 'x', resume: false })).rejects.toThrow('enough');
  expect(vi.mocked(trainCartridge).mock.calls.map(([options]) => options.settings.training.tokens)).toEqual([48, 48]);
});
