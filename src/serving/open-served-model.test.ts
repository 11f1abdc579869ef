import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { ProgressListener } from '../core/progress.js';
import { writeTuning } from '../pipeline/engine-tuning.js';
import { ModelSession } from '../pipeline/model-session.js';
import { resolveSettings } from '../pipeline/resolve-settings.js';
import { openServedModel } from './open-served-model.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cartridges-served-model-'));
  vi.stubEnv('CARTRIDGES_CACHE', folder);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

it('plans memory for the type of cache that was tuned', async () => {
  const session = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
  const { weightsHash } = session.fingerprint;
  await session.dispose();
  const usual = await servedBytes();
  await writeTuning(weightsHash, {
    threads: 1,
    decodeThreads: 1,
    batchTokens: 512,
    flashAttention: true,
    cacheType: 'f32',
    extraBuffers: true,
    weights: 'stored',
  });
  const tuned = await servedBytes();

  expect(usual.notes).toContain('cartridges tune --model pocket');
  expect(tuned.notes).not.toContain('cartridges tune');
  expect(usual.planned).toBe(usual.taken);
  expect(tuned.planned).toBe(tuned.taken);
  expect(tuned.taken).toBe(2 * usual.taken);
});

/** Bytes of the cache of a server: in its plan, and in the engine that it made. */
async function servedBytes(): Promise<{ planned: number; taken: number; notes: string }> {
  const settings = resolveSettings({ device: 'cpu', threads: 1, serving: { contextTokens: 2048 } });
  let notes = '';
  const onProgress: ProgressListener = (event) => {
    if (event.kind === 'note') notes += `${event.message}\n`;
  };
  const { session, plan, model } = await openServedModel({ ...settings, model: 'pocket' }, { onProgress });
  const { contextTokens, kvBytesPerToken } = model.engine;
  await session.dispose();
  return { planned: plan.bytes, taken: contextTokens * kvBytesPerToken, notes };
}
