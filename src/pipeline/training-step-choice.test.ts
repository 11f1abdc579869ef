import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { copyOneDnn } from '../../test/support/onednn-copy.js';
import type { ProgressEvent } from '../core/progress.js';
import type { ModelConfig } from '../models/model-config.js';
import { GgmlType } from '../native/ggml.js';
import { findOneDnn } from '../native/onednn/library.js';
import { Backend } from '../tensor/backend.js';
import type { ProviderSpeed } from '../tensor/products/product-trial.js';
import { resolveSettings } from './resolve-settings.js';
import type { SettingsInput } from './settings.js';
import { chooseProducts, chooseTrainingStep } from './training-step-choice.js';

/** Of a file, where there is one: one that the system's loader finds cannot be read. */
const search = findOneDnn();
const oneDnn = search.state === 'found' && search.library.path.includes('/') ? search.library : undefined;
const config = { embedding: 64, feedForward: 128 } as ModelConfig;

let backend: Backend;
let folder: string;
beforeAll(() => {
  backend = new Backend({ device: 'cpu', threads: 1 });
  folder = mkdtempSync(join(tmpdir(), 'step-choice-'));
});
afterAll(() => {
  backend.dispose();
  rmSync(folder, { recursive: true });
});
afterEach(() => vi.unstubAllEnvs());

/** The choice for a small model, and the warnings on the way, when `CARTRIDGES_ONEDNN` is `library`. */
async function chooseWith(library: string, training: SettingsInput['training'] = {}, on: Pick<Backend, 'device'> = backend) {
  vi.stubEnv('CARTRIDGES_ONEDNN', library);
  vi.stubEnv('CARTRIDGES_CACHE', folder);
  const warnings: string[] = [];
  const onProgress = (event: ProgressEvent) => event.kind === 'warning' && warnings.push(event.message);
  const choice = await chooseTrainingStep(on as Backend, config, resolveSettings({ training }), { onProgress });
  return { choice, warnings };
}

/** A file in place of the library, with what it holds. */
function writeLibrary(name: string, content: string | Buffer): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

test.each([
  ['is missing', () => join(folder, 'nowhere', 'libdnnl.so.3'), 'cannot be loaded'],
  ['is a text', () => writeLibrary('text.so', 'not a library\n'), 'cannot be loaded'],
  ['is cut short', () => writeLibrary('cut.so', readFileSync(process.execPath).subarray(0, 4096)), 'cannot be loaded'],
  ['is another library', () => backend.engine.files.base, 'cannot be loaded'],
])('a library that %s falls back with one warning that names it', async (_what, library, problem) => {
  const path = library();
  const { choice, warnings } = await chooseWith(path);
  expect(choice).toEqual({ step: 'graph' });
  expect(warnings).toEqual([expect.stringContaining('oneDNN is not used')]);
  expect(warnings[0]).toContain(path);
  expect(warnings[0]).toContain(problem);
  expect(await chooseWith(path, { products: 'ggml' })).toEqual({ choice: { step: 'graph' }, warnings: [] });
  await expect(chooseWith(path, { products: 'onednn' })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringContaining(problem),
  });
});

test.skipIf(!oneDnn).each([1, 4])(
  'a library of version %i falls back with one warning that names it (needs oneDNN as a file)',
  async (major) => {
    const path = copyOneDnn(oneDnn!, join(folder, `version-${major}.so`), `${major}.2.0`);
    const { choice, warnings } = await chooseWith(path);
    expect(choice).toEqual({ step: 'graph' });
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toMatch(new RegExp(`oneDNN is not used: .*version-${major}\\.so is oneDNN ${major}\\.`));
  },
);

test.skipIf(!oneDnn)('the choice of oneDNN says which release it is (needs oneDNN as a file)', async () => {
  const { choice, warnings } = await chooseWith(oneDnn!.path, { step: 'replica', products: 'onednn' });
  expect(choice).toMatchObject({ step: 'replica', products: { provider: 'oneDNN' }, productsVersion: oneDnn!.version });
  expect(warnings).toEqual([]);
});

test('the replica step is refused where there is no processor to compute on', async () => {
  const device = { ...backend.device, kind: 'gpu', name: 'Vulkan0' } as const;
  await expect(chooseWith('', { step: 'replica' }, { device })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringContaining('Vulkan0'),
  });
  expect((await chooseWith('', { step: 'auto' }, { device })).choice).toEqual({ step: 'graph' });
});

function speed(provider: 'ggml' | 'oneDNN', weightType: ProviderSpeed['weightType'], gigaflops: number): ProviderSpeed {
  const operandType = provider === 'oneDNN' && weightType === 'bf16' ? 'bf16' : 'f32';
  const products =
    provider === 'ggml' ? ({ provider, operandType } as const) : ({ provider, operandType, path: 'dnnl' } as const);
  return { products, weightType, gigaflops, implementations: [] };
}

const choose = (measured: ProviderSpeed[], settings: Partial<Parameters<typeof chooseProducts>[1]> = {}) =>
  chooseProducts({ measured }, { products: 'auto', weightType: 'auto', ...settings });

test('takes the most exact of what is about as fast as the fastest', () => {
  const avx2 = [speed('oneDNN', 'f32', 88), speed('ggml', 'f32', 30), speed('ggml', 'f16', 40), speed('ggml', 'bf16', 33)];
  expect(choose(avx2)).toBe(avx2[0]);
  const avx512 = [
    speed('oneDNN', 'f32', 245),
    speed('ggml', 'f32', 40),
    speed('oneDNN', 'bf16', 500),
    speed('ggml', 'bf16', 150),
  ];
  expect(choose(avx512)).toBe(avx512[2]);
  const close = [speed('ggml', 'f32', 90), speed('ggml', 'f16', 100)];
  expect(choose(close)).toBe(close[0]);
});

test('settings leave only what they name', () => {
  const measured = [speed('oneDNN', 'f32', 88), speed('ggml', 'f32', 30), speed('ggml', 'bf16', 60)];
  expect(choose(measured, { products: 'ggml' })).toBe(measured[2]);
  expect(choose(measured, { products: 'onednn' })).toBe(measured[0]);
  expect(choose(measured, { products: 'ggml', weightType: 'f32' })).toBe(measured[1]);
  expect(choose(measured, { products: 'onednn', weightType: 'bf16' })).toBeUndefined();
});

test.skipIf(!oneDnn)('rows of weights lie apart for oneDNN in f32 alone (needs oneDNN as a file)', async () => {
  const weightsOf = async (training: SettingsInput['training']) => {
    const { choice } = await chooseWith(oneDnn!.path, { step: 'replica', weightType: 'f32', ...training });
    return choice.step === 'replica' ? choice.weights : undefined;
  };
  expect(await weightsOf({ products: 'onednn' })).toMatchObject({ transposed: undefined, spacesRows: true });
  expect(await weightsOf({ products: 'ggml' })).toMatchObject({ transposed: GgmlType.F32, spacesRows: false });
});
