import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { ChatFraming } from '../models/chat-framing.js';
import { buildCartridge, trainAndWrite } from './build.js';
import type { TokenizedCorpus } from './corpus-source.js';
import { ModelSession } from './model-session.js';
import { resolveSettings } from './resolve-settings.js';
import { synthesizeDataset } from './synthesize.js';
import { trainCartridge } from './train.js';

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

test('a short text gets as many rows as the framing needs, in each stage', async () => {
  vi.spyOn(ChatFraming.prototype, 'systemFrameTokens', 'get').mockReturnValue(30);
  vi.mocked(synthesizeDataset).mockResolvedValue({} as never);
  vi.mocked(trainCartridge).mockRejectedValue(new Error('enough'));
  await expect(buildCartridge({ session, corpus, settings, output })).rejects.toThrow('enough');
  await expect(trainAndWrite({ session, corpus, settings, output, dataset: 'x', resume: false })).rejects.toThrow('enough');
  expect(vi.mocked(trainCartridge).mock.calls.map(([options]) => options.settings.training.tokens)).toEqual([48, 48]);
});
