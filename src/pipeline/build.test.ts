import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { CartridgesError, type ErrorCode } from '../core/errors.js';
import { packageRoot } from '../core/package.js';
import type { ProgressEvent } from '../core/progress.js';
import { ChatFraming } from '../models/chat-framing.js';
import { type DatasetManifest, readManifest } from '../self-study/dataset/manifest.js';
import { buildCartridge, trainAndWrite } from './build.js';
import { loadCorpus, type TokenizedCorpus } from './corpus-source.js';
import { ModelSession } from './model-session.js';
import { resolveSettings } from './resolve-settings.js';
import type { SettingsInput } from './settings.js';
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
  // Short, so that a slow machine plans many too, and what slows the build down is most of its time.
  const short = {
    chunkMinTokens: 16,
    chunkMaxTokens: 32,
    questionMaxTokens: 12,
    answerMaxTokens: 6,
    keepTruncated: true,
    minTokenProbability: 0,
  };
  const synthesis = { conversations: 5000, concurrency: 8, ...short };
  const slow = resolveSettings({ outputFolder: join(folder, 'slow'), minutes: 0.2, synthesis });
  vi.mocked(measureTraining).mockResolvedValue(2e-5);
  vi.mocked(trainCartridge).mockRejectedValue(new Error('enough'));
  // The speed is measured without a listener, so only the build itself is slowed down.
  const onProgress = (event: ProgressEvent) => {
    if (event.kind === 'progress') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2500);
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

test.each<[ErrorCode, RegExp]>([
  ['NON_FINITE_LOSS', /^the conversations are kept: the same command with a lower training\.learningRate trains on them$/],
  ['SETTINGS_CHANGED', /^the conversations are kept: delete \S+training-\w+, and the same command trains on them anew$/],
  ['ENGINE_FAILURE', /^the last checkpoint is kept: the same command continues from it;/],
])('a build whose training ends with %s says how to go on, without the flag of `train`', async (code, hint) => {
  vi.mocked(synthesizeDataset).mockResolvedValue({} as never);
  vi.mocked(trainCartridge).mockRejectedValue(new CartridgesError(code, 'what is wrong', { hint: '--resume continues' }));
  await expect(buildCartridge({ session, corpus, settings, output })).rejects.toMatchObject({
    code,
    message: 'what is wrong',
    hint: expect.stringMatching(hint),
  });
});

test('a build finds its training again, and its conversations for another one', async () => {
  vi.mocked(synthesizeDataset).mockResolvedValue({} as never);
  vi.mocked(trainCartridge).mockRejectedValue(new Error('enough'));
  const folderOf = async (others: SettingsInput) => {
    await expect(buildCartridge({ session, corpus, settings: resolveSettings(others), output })).rejects.toThrow('enough');
    return vi.mocked(trainCartridge).mock.lastCall?.[0].folder;
  };
  const outputFolder = join(folder, 'same');
  const first = (await folderOf({ outputFolder })) as string;
  const others = {
    chat: { temperature: 0.5 },
    evaluation: { maxTokens: 9 },
    serving: { port: 1 },
    cartridgeType: 'f32',
  } as const;
  expect(await folderOf({ outputFolder, ...others, training: { memory: '1GiB' } })).toBe(first);

  const again = (await folderOf({ outputFolder, training: { learningRate: 0.01 } })) as string;
  expect([again, dirname(again)]).toEqual([expect.not.stringMatching(first), dirname(first)]);
  expect(dirname((await folderOf({ outputFolder, seed: 1 })) as string)).not.toBe(dirname(first));
});

test('a short text gets as many rows as the framing needs, in each stage', async () => {
  vi.spyOn(ChatFraming.prototype, 'systemFrameTokens', 'get').mockReturnValue(30);
  vi.mocked(synthesizeDataset).mockResolvedValue({} as never);
  vi.mocked(trainCartridge).mockRejectedValue(new Error('enough'));
  await expect(buildCartridge({ session, corpus, settings, output })).rejects.toThrow('enough');
  await expect(trainAndWrite({ session, corpus, settings, output, dataset: 'x', resume: false })).rejects.toThrow('enough');
  expect(vi.mocked(trainCartridge).mock.calls.map(([options]) => options.settings.training.tokens)).toEqual([48, 48]);
});
