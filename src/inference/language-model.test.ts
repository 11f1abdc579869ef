import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { PACKAGED_GOLDEN_FOLDER, readGolden } from '../../test/support/golden.js';
import { loadEngine } from '../native/engine.js';
import { LanguageModel } from './language-model.js';

const { path: modelPath } = readGolden('tiny-llama', PACKAGED_GOLDEN_FOLDER);
const options = { modelPath, device: 'cpu', threads: 1 };
const settings = { contextTokens: 256 };
/** What was freed, in order. */
let freed: string[];

beforeEach(() => {
  const { llama } = loadEngine();
  const { llama_free } = llama;
  freed = [];
  vi.spyOn(llama, 'llama_free').mockImplementation((context) => {
    freed.push('context');
    llama_free(context);
  });
  // Not done: what is freed twice or too early must fail a test, not end its process.
  vi.spyOn(llama, 'llama_model_free').mockImplementation(() => void freed.push('model'));
});
afterEach(() => {
  vi.restoreAllMocks();
});

it('frees its engines and its weights once, however often it is disposed', async () => {
  const model = await LanguageModel.load(options);
  const engine = await model.createContext(settings);
  await Promise.all([model.dispose(), engine.dispose(), model.dispose()]);
  await model.dispose();
  expect(freed).toEqual(['context', 'model']);
});

it('waits for an engine that is being made when it is disposed, and makes none afterwards', async () => {
  const model = await LanguageModel.load(options);
  const refused = [model.createContext({ ...settings, cacheType: 'q8_0' as 'f16' }), model.createContext(settings)];
  const outcomes = Promise.allSettled(refused);
  await model.dispose();
  expect(freed).toEqual(['context', 'model']);
  const disposed = { code: 'CANCELLED', message: expect.stringContaining('disposed') };
  expect(await outcomes).toMatchObject([{ reason: { code: 'INVALID_OPTION' } }, { reason: disposed }]);
  await expect(model.createContext(settings)).rejects.toMatchObject(disposed);
});

it('frees the weights when loading fails behind them', async () => {
  const { llama } = loadEngine();
  vi.spyOn(llama, 'llama_vocab_type').mockReturnValueOnce(0);
  await expect(LanguageModel.load(options)).rejects.toMatchObject({ code: 'UNSUPPORTED_MODEL' });
  const onProgress = ({ kind }: { kind: string }) => {
    if (kind === 'end') throw new Error('the terminal is gone');
  };
  await expect(LanguageModel.load({ ...options, onProgress })).rejects.toThrow('the terminal is gone');
  const controller = new AbortController();
  const loading = LanguageModel.load({ ...options, signal: controller.signal });
  controller.abort();
  await expect(loading).rejects.toMatchObject({ code: 'CANCELLED' });
  expect(freed).toEqual(['model', 'model', 'model']);
});
