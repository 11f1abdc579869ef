import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Cartridge } from '../cartridge/cartridge.js';
import { readCartridgeHeader, writeCartridge } from '../cartridge/cartridge-file.js';
import { prepareInitialRows } from './initial-rows.js';
import { ModelSession } from './model-session.js';
import { resolveSettings } from './resolve-settings.js';
import type { SettingsInput } from './settings.js';

const ROWS = 16;

let folder: string;
let session: ModelSession;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cartridges-initial-rows-'));
  session = await ModelSession.open({ model: 'pocket', threads: 1 });
});
afterAll(async () => {
  await session.dispose();
  rmSync(folder, { recursive: true });
});

const prepare = (training: SettingsInput['training'], tokenCount = ROWS) =>
  prepareInitialRows(session, 'The lamp is lit.', resolveSettings({ training }), tokenCount);

const RECEIPT = { createdBy: 'a test', createdAt: '2025-01-01T00:00:00.000Z', initializer: 'random' };

/** A cartridge of zeros for the pocket model, or for another quantisation of it. */
async function writeParent(name: string, model: Partial<Cartridge['model']> = {}, receipt = {}): Promise<string> {
  const { layers, kvHeads, headDimension } = session.fingerprint;
  const zeros = () => Array.from({ length: layers }, () => new Float32Array(ROWS * kvHeads * headDimension));
  const path = join(folder, name);
  const cartridge: Cartridge = {
    model: { ...session.fingerprint, ...model },
    framing: { name: session.framing.name, hash: session.framing.hash },
    tokenCount: ROWS,
    frozenCount: 1,
    keys: zeros(),
    values: zeros(),
    receipt: { ...RECEIPT, ...receipt },
  };
  await writeCartridge(path, cartridge, { dtype: 'f32' });
  return path;
}

describe('prepareInitialRows', () => {
  it('refuses fewer rows than the framing of the system message takes', async () => {
    await expect(prepare({ initializer: 'first-tokens' }, 2)).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    await expect(prepare({ initializer: 'random' }, 2)).resolves.toBeDefined();
  });

  it('refuses a text or cartridge that is not there', async () => {
    const missing = join(folder, 'none.txt');
    await expect(prepare({ initializer: 'text', initializerText: missing })).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
    await expect(prepare({ initializer: 'cartridge', initializerCartridge: missing })).rejects.toMatchObject({
      code: 'FILE_NOT_FOUND',
    });
  });

  it('refuses a cartridge with fewer rows than are wanted', async () => {
    const initializerCartridge = await writeParent('small.safetensors');
    await expect(prepare({ initializer: 'cartridge', initializerCartridge }, ROWS + 1)).rejects.toThrow(
      /has 16 rows, 17 are needed/,
    );
  });

  it('describes a cartridge for the receipt, without what that one came from', async () => {
    const parents = [{ generations: 4, receipt: { parents: [] } }];
    const initializerCartridge = await writeParent('descendant.safetensors', {}, { parents });
    const { parent } = await prepare({ initializer: 'cartridge', initializerCartridge });
    const { contentHash } = await readCartridgeHeader(initializerCartridge);
    expect(parent).toEqual({ contentHash, tokenCount: ROWS, frozenCount: 1, generations: 5, receipt: RECEIPT });
  });

  it('takes one of another quantisation only when that is allowed, and says so for the receipt', async () => {
    const initializerCartridge = await writeParent('other.safetensors', { quantization: 'F16', weightsHash: 'b'.repeat(64) });
    const training = { initializer: 'cartridge', initializerCartridge } as const;
    await expect(prepare(training)).rejects.toMatchObject({ code: 'CARTRIDGE_MISMATCH' });
    const { parent } = await prepare({ ...training, allowQuantization: true });
    expect(parent).toMatchObject({ tokenCount: ROWS, otherQuantization: true });
  });
});
