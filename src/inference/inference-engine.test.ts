import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { goldenCartridge, randomCartridge } from '../../test/support/cartridges.js';
import { largestDifference, PACKAGED_GOLDEN_FOLDER, readGolden } from '../../test/support/golden.js';
import { Random } from '../core/random.js';
import type { InferenceEngine } from './inference-engine.js';
import { LanguageModel } from './language-model.js';
import type { Completion, GeneratedToken, GenerationRequest } from './requests.js';

const GREEDY = { temperature: 0 };

describe('many requests in one cache', () => {
  const golden = readGolden('tiny-llama', PACKAGED_GOLDEN_FOLDER);
  const vocabulary = golden.model.vocab;
  let model: LanguageModel;
  let engine: InferenceEngine;

  beforeAll(async () => {
    model = await LanguageModel.load({ modelPath: golden.path, device: 'cpu', threads: 1 });
    engine = await model.createContext({ contextTokens: 512, maxRequests: 8, batchTokens: 32 });
  });
  afterAll(() => model.dispose());

  const promptOf = (seed: number, length: number) => {
    const random = new Random(seed);
    return Int32Array.from({ length }, () => random.integer(vocabulary));
  };
  const requestOf = (seed: number, more: Partial<GenerationRequest> = {}): GenerationRequest => ({
    prompt: promptOf(seed, 5 + (seed % 7)),
    maxTokens: 6 + (seed % 5),
    sampling: { temperature: 1, topK: 50, seed },
    topLogprobs: 5,
    ...more,
  });
  const withoutTimings = ({ timings: _timings, ...rest }: Completion) => rest;

  it('gives a request the same numbers alone and beside others', async () => {
    // What is drawn rarely has a log-prob that rounding moves more.
    const likely = (seed: number) => requestOf(seed, { sampling: { temperature: 1, topK: 10, seed } });
    const alone: Completion[] = [];
    for (let seed = 0; seed < 6; seed++) alone.push(await engine.complete(likely(seed)));
    const together = await Promise.all(alone.map((_, seed) => engine.complete(likely(seed))));
    together.forEach((completion, seed) => {
      expect(completion.tokens).toEqual(alone[seed]!.tokens);
      expect(largestDifference(completion.logprobs, alone[seed]!.logprobs)).toBeLessThan(1e-3);
    });
  });

  it('ends a request that only repeats itself, when that is asked for', async () => {
    const loop = { maxTokens: 80, sampling: { temperature: 0, logitBias: new Map([[7, 1000]]) } };
    const [ended, whole] = await Promise.all(
      [true, false].map((endRepetition) => engine.complete(requestOf(1, { ...loop, endRepetition }))),
    );
    expect(whole).toMatchObject({ finishReason: 'length', tokens: { length: 80 } });
    expect(ended).toMatchObject({ finishReason: 'length', tokens: { length: 49 }, usage: { completionTokens: 49 } });
  });

  it('gives the same numbers with a shared prefix as without, and computes it once', async () => {
    const prefix = promptOf(99, 60);
    const requests = Array.from({ length: 7 }, (_, seed) => {
      return requestOf(seed, { prompt: Int32Array.of(...prefix, ...promptOf(seed, 4)), sampling: GREEDY });
    });
    const apart = await Promise.all(requests.map((request) => engine.complete(request)));
    await engine.whenIdle();
    const before = engine.statistics;
    const shared = await Promise.all(requests.map((request) => engine.complete({ ...request, sharedPrefixTokens: 60 })));
    shared.forEach((completion, index) => {
      expect(completion.tokens).toEqual(apart[index]!.tokens);
      expect(largestDifference(completion.logprobs, apart[index]!.logprobs)).toBeLessThan(5e-3);
    });
    expect(engine.statistics.promptTokens - before.promptTokens).toBe(60 + 7 * 4);
    expect(shared.map(({ usage }) => usage.cachedPromptTokens)).toEqual([0, 60, 60, 60, 60, 60, 60]);
    await engine.whenIdle();
    expect(engine.freeCells).toBe(engine.contextTokens);
  });

  it('gives equal results to equal requests in equal order, however slow their readers are', async () => {
    const run = async (delays: (index: number) => number) => {
      await engine.whenIdle();
      return Promise.all(
        Array.from({ length: 12 }, (_, seed) => engine.generate(requestOf(seed))).map(async (tokens, index) => {
          const seen: GeneratedToken[] = [];
          for await (const token of tokens) {
            seen.push(token);
            await setTimeout(delays(index + seen.length));
          }
          return seen;
        }),
      );
    };
    const random = new Random(3);
    expect(await run(() => random.integer(4))).toEqual(await run(() => 0));
  });

  it('starts requests of one tick in one batch, and later ones on an empty cache', async () => {
    const first = await Promise.all(Array.from({ length: 8 }, (_, seed) => engine.complete(requestOf(seed))));
    await engine.whenIdle();
    const second = await Promise.all(Array.from({ length: 8 }, (_, seed) => engine.complete(requestOf(seed))));
    expect(second.map(withoutTimings)).toEqual(first.map(withoutTimings));
  });

  it('streams what it completes', async () => {
    const completion = await engine.complete(requestOf(3));
    const streamed = [];
    for await (const token of engine.generate(requestOf(3))) streamed.push(token);
    expect(streamed.map(({ token }) => token)).toEqual([...completion.tokens]);
    expect(streamed.map(({ text }) => text).join('')).toBe(completion.text);
    expect(streamed.at(-1)!.finishReason).toBe(completion.finishReason);
    expect(streamed.slice(0, -1).every(({ finishReason }) => finishReason === undefined)).toBe(true);
  });

  it('ends at a stop string that lies across tokens, and leaves it out of the text', async () => {
    const request = requestOf(4, { maxTokens: 30, sampling: GREEDY, ignoreEndOfGeneration: true });
    const { text, tokens } = await engine.complete(request);
    const pieces = [...tokens].map((token) => model.tokenizer.decode([token]));
    const border = pieces.findIndex((piece, index) => index > 3 && piece.length > 0 && (pieces[index + 1] ?? '').length > 0);
    const stop = pieces[border]!.slice(-1) + pieces[border + 1]!.slice(0, 1);
    const stopped = await engine.complete({ ...request, stop: [stop, 'never this'] });
    expect(stopped.finishReason).toBe('stop');
    expect(stopped.text).toBe(text.slice(0, text.indexOf(stop)));
    expect(tokens.slice(0, stopped.tokens.length)).toEqual(stopped.tokens);
  });

  it('cancels by signal and by leaving the loop, and gives the cells back', async () => {
    const controller = new AbortController();
    const long = requestOf(1, { maxTokens: 200, ignoreEndOfGeneration: true });
    const cancelled = engine.complete({ ...long, signal: controller.signal });
    for await (const { token } of engine.generate(long)) {
      controller.abort();
      if (token >= 0) break;
    }
    await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' });
    await engine.whenIdle();
    expect(engine.freeCells).toBe(engine.contextTokens);
    await expect(engine.complete({ ...long, signal: controller.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
    const whole = requestOf(5, { prompt: promptOf(5, 400), maxTokens: 113, ignoreEndOfGeneration: true });
    expect((await engine.complete(whole)).tokens).toHaveLength(113);
  });

  it.each(['return', 'throw'] as const)('cancels what is left by %s before its first token', async (way) => {
    await engine.whenIdle();
    const before = engine.statistics;
    const iterator = engine.generate(requestOf(1, { maxTokens: 200, ignoreEndOfGeneration: true }))[Symbol.asyncIterator]();
    await iterator[way]!(new Error('enough')).catch(() => undefined);
    await engine.whenIdle();
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    expect(engine.statistics.newTokens - before.newTokens).toBe(0);
    expect(engine.freeCells).toBe(engine.contextTokens);
  });

  it('cancels at once what is left while a token is waited for', async () => {
    const before = engine.statistics;
    const iterator = engine.generate(requestOf(1, { maxTokens: 200, ignoreEndOfGeneration: true }))[Symbol.asyncIterator]();
    const first = iterator.next();
    await iterator.return!();
    expect(await first).toEqual({ done: true, value: undefined });
    await engine.whenIdle();
    expect(engine.statistics.newTokens - before.newTokens).toBeLessThan(3);
  });

  it('puts requests behind a cartridge into the same cells, whatever ran before', async () => {
    const handle = await engine.loadCartridge(goldenCartridge(golden, 'cartridge', golden.cartridge.rows));
    const group = async (seeds: number[]) => {
      const requests = seeds.map((seed) => requestOf(seed, { cartridges: [handle], sharedPrefixTokens: 3 }));
      const completions = await Promise.all(requests.map((request) => engine.complete(request)));
      await engine.whenIdle();
      return completions.map(withoutTimings);
    };
    const first = await group([1, 2, 3, 4]);
    await group([9, 8, 7, 6, 5, 11, 12, 13, 14, 15]);
    expect(await group([1, 2, 3, 4])).toEqual(first);
    await engine.unloadCartridge(handle);
  });

  it('uses more sequences than requests may run', async () => {
    const narrow = await model.createContext({ contextTokens: 512, maxRequests: 2, batchTokens: 8 });
    const requests = Array.from({ length: 20 }, (_, seed) => requestOf(seed, { sampling: GREEDY, sharedPrefixTokens: 4 }));
    const narrowTokens = await Promise.all(requests.map(async (request) => (await narrow.complete(request)).tokens));
    const tokens = await Promise.all(requests.map(async (request) => (await engine.complete(request)).tokens));
    expect(narrowTokens).toEqual(tokens);
    await narrow.dispose();
  });

  it('waits for room, and refuses at once what can never fit', async () => {
    const wide = Array.from({ length: 5 }, (_, seed) => engine.complete(requestOf(seed, { maxTokens: 250 })));
    const tooLong = engine.complete(requestOf(1, { prompt: promptOf(1, 300), maxTokens: 300 }));
    await expect(tooLong).rejects.toMatchObject({ code: 'CONTEXT_OVERFLOW', message: expect.stringContaining('512') });
    expect(await Promise.all(wide)).toHaveLength(5);
    expect(engine.statistics.peakCells).toBeLessThanOrEqual(engine.contextTokens);
  });

  it('counts the cells of cartridges when it admits requests', async () => {
    const handle = await engine.loadCartridge(goldenCartridge(golden, 'cartridge', golden.cartridge.rows));
    const cartridges = [handle];
    const fits = requestOf(2, { prompt: promptOf(2, 104), maxTokens: 401, cartridges, ignoreEndOfGeneration: true });
    await expect(engine.complete({ ...fits, maxTokens: 402 })).rejects.toMatchObject({ code: 'CONTEXT_OVERFLOW' });
    const gone = engine.complete({ ...fits, prompt: promptOf(2, 4), maxTokens: 3 });
    await engine.unloadCartridge(handle);
    expect((await gone).tokens).toHaveLength(3);
    await expect(engine.complete(fits)).rejects.toMatchObject({ code: 'INVALID_OPTION' });
  });

  it('refuses wrong requests before the engine sees them', async () => {
    const refused: [Partial<GenerationRequest>, string][] = [
      [{ prompt: new Int32Array(0) }, 'INVALID_INPUT'],
      [{ prompt: Int32Array.of(vocabulary) }, 'INVALID_INPUT'],
      [{ prompt: Int32Array.of(-1) }, 'INVALID_INPUT'],
      [{ maxTokens: 0 }, 'INVALID_OPTION'],
      [{ topLogprobs: vocabulary + 1 }, 'INVALID_OPTION'],
      [{ stop: [''] }, 'INVALID_OPTION'],
      [{ sampling: { temperature: 1 } }, 'INVALID_OPTION'],
      [{ sharedPrefixTokens: 100 }, 'INVALID_OPTION'],
    ];
    for (const [change, code] of refused) {
      await expect(engine.complete(requestOf(1, change))).rejects.toMatchObject({ code });
    }
  });

  it('refuses a cartridge of another model, and settings that cannot be', async () => {
    await expect(engine.loadCartridge(randomCartridge(4))).rejects.toMatchObject({ code: 'CARTRIDGE_MISMATCH' });
    await expect(model.createContext({ cacheType: 'q8_0' as 'f16' })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    await expect(model.createContext({ maxRequests: 257 })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
  });

  it('fails what runs when it is disposed', async () => {
    const other = await model.createContext({ contextTokens: 256 });
    const running = other.complete(requestOf(1, { maxTokens: 200, ignoreEndOfGeneration: true }));
    const disposed = new Promise((resolve) => setImmediate(() => resolve(other.dispose())));
    await expect(running).rejects.toMatchObject({ code: 'CANCELLED' });
    await disposed;
    await expect(other.complete(requestOf(1))).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});

it('says why a model cannot be loaded', async () => {
  await expect(LanguageModel.load({ modelPath: import.meta.filename })).rejects.toMatchObject({ code: 'INVALID_MODEL' });
  await expect(LanguageModel.load({ modelPath: 'no-such.gguf' })).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
});
