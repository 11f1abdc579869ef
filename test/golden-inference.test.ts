import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineSettings, InferenceEngine } from '../src/inference/inference-engine.js';
import { LanguageModel } from '../src/inference/language-model.js';
import type { GenerationRequest } from '../src/inference/requests.js';
import { logitsOf, scoreContinuation } from '../src/inference/score.js';
import { goldenCartridge } from './support/cartridges.js';
import { goldenNames, largestDifference, readGolden } from './support/golden.js';

const GREEDY = { temperature: 0 };
/** Plain attention over an f32 cache: what the golden numbers are exact for. */
const EXACT: EngineSettings = { flashAttention: false, cacheType: 'f32', contextTokens: 512, maxRequests: 4 };

describe.each(goldenNames())('%s', (name) => {
  const golden = readGolden(name);
  const isQuantized = name.includes('q8_0');
  const tolerance = isQuantized ? 0.3 : 1e-4;
  let model: LanguageModel;
  let engine: InferenceEngine;

  beforeAll(async () => {
    model = await LanguageModel.load({ modelPath: golden.path, device: 'cpu', threads: 1 });
    engine = await model.createContext(EXACT);
  });
  afterAll(() => model.dispose());

  it('gives the golden logits of a text', async () => {
    const logits = await logitsOf(engine, Int32Array.from(golden.text.token_ids));
    expect(largestDifference(logits, golden.tensors['text.logits']!)).toBeLessThan(tolerance);
  });

  it('gives the golden logits of two conversations behind a cartridge, as two sequences of one batch', async () => {
    const handle = await engine.loadCartridge(goldenCartridge(golden, 'cartridge', golden.cartridge.rows));
    const { tokens, segments } = golden.pack;
    const before = engine.statistics.decodeCalls;
    const rows = await Promise.all(
      [0, 1].map((segment) => {
        const own = tokens.filter((_, index) => segments[index] === segment);
        return logitsOf(engine, Int32Array.from(own), { cartridges: [handle] });
      }),
    );
    const joined = Float32Array.from(rows.flatMap((row) => [...row]));
    expect(largestDifference(joined, golden.tensors['pack.logits']!)).toBeLessThan(tolerance);
    expect(engine.statistics.decodeCalls - before).toBeLessThanOrEqual(3);
    await engine.unloadCartridge(handle);
    expect(engine.freeCells).toBe(engine.contextTokens);
  });

  it('gives the golden logits behind two cartridges', async () => {
    const [first, second] = [
      await engine.loadCartridge(goldenCartridge(golden, 'cartridge', golden.cartridge.rows)),
      await engine.loadCartridge(goldenCartridge(golden, 'compose.second', golden.compose.rows[1])),
    ];
    const logits = await logitsOf(engine, Int32Array.from(golden.compose.tokens), { cartridges: [first, second] });
    expect(largestDifference(logits, golden.tensors['compose.logits']!)).toBeLessThan(tolerance);
    await Promise.all([engine.unloadCartridge(first), engine.unloadCartridge(second)]);
    await engine.whenIdle();
    expect(engine.freeCells).toBe(engine.contextTokens);
  });

  it('generates the golden tokens and log-probs behind the cartridge, also for many users of it', async () => {
    const handle = await engine.loadCartridge(goldenCartridge(golden, 'cartridge', golden.cartridge.rows));
    const request: GenerationRequest = {
      prompt: Int32Array.from(golden.greedy.prompt),
      cartridges: [handle],
      maxTokens: 8,
      sampling: GREEDY,
      topLogprobs: 5,
      ignoreEndOfGeneration: true,
    };
    const completions = await Promise.all(Array.from({ length: 6 }, () => engine.complete(request)));
    for (const { tokens, topLogprobs, logprobs } of completions) {
      expect([...tokens]).toEqual(golden.greedy.steps.map((step) => step.token_id));
      golden.greedy.steps.forEach((step, index) => {
        expect(largestDifference(topLogprobs[index]!.logprobs, step.top_logprobs)).toBeLessThan(isQuantized ? 0.2 : 1e-3);
        if (!isQuantized) expect([...topLogprobs[index]!.tokenIds]).toEqual(step.top_token_ids);
        expect(logprobs[index]).toBe(topLogprobs[index]!.logprobs[0]);
      });
    }
    await engine.unloadCartridge(handle);
  });

  it('scores a continuation as its logits say', async () => {
    const tokens = Int32Array.from(golden.text.token_ids);
    const [prompt, continuation] = [tokens.subarray(0, 3), tokens.subarray(3)];
    const score = await scoreContinuation(engine, { prompt, continuation });
    const logits = golden.tensors['text.logits']!;
    let expected = 0;
    continuation.forEach((token, index) => {
      const row = logits.subarray((index + 2) * golden.model.vocab, (index + 3) * golden.model.vocab);
      expected += Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0)) - row[token]!;
    });
    expect(score.tokens).toBe(5);
    expect(Math.abs(score.sum - expected)).toBeLessThan(isQuantized ? 1 : 1e-3);
  });
});
