import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { HAS_SMOLLM2, SMOLLM2_NOTE, SMOLLM2_PATH } from '../../test/support/smollm2.js';
import { loadCorpus } from './corpus-source.js';
import { ModelSession } from './model-session.js';
import { resolveSettings } from './resolve-settings.js';
import { synthesizeDataset } from './synthesize.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cartridges-synthesize-'));
  vi.stubEnv('CARTRIDGES_CACHE', join(folder, 'cache'));
  writeFileSync(join(folder, 'text.txt'), 'The light of Fornholm was built in 1871. Ada Brek keeps it.');
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

/** What two conversations tell the user, in the dataset of that name. */
async function notesOf(model: string, dataset: string): Promise<string> {
  const synthesis = { conversations: 2, concurrency: 2, questionMaxTokens: 4, answerMaxTokens: 4 };
  const settings = resolveSettings({ device: 'cpu', threads: 1, synthesis });
  const session = await ModelSession.open({ model, device: 'cpu', threads: 1 });
  let notes = '';
  try {
    const corpus = await loadCorpus(join(folder, 'text.txt'), session.tokenizer);
    await synthesizeDataset({
      session,
      corpus,
      settings,
      folder: join(folder, dataset),
      onProgress: (event) => {
        if (event.kind === 'note') notes += `${event.message}\n`;
      },
    });
  } finally {
    await session.dispose();
  }
  return notes;
}

it.skipIf(!HAS_SMOLLM2)(`says before a dataset begins that a larger model is not tuned${SMOLLM2_NOTE}`, async () => {
  expect(await notesOf(SMOLLM2_PATH, 'a')).toContain(`cartridges tune --model ${SMOLLM2_PATH}`);
  expect(await notesOf(SMOLLM2_PATH, 'a')).not.toContain('tune');
});

it('does not send anybody to tune a small model', async () => {
  expect(await notesOf('pocket', 'a')).not.toContain('tune');
});
