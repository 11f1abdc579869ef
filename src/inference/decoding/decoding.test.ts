import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { HAS_SMOLLM2, SMOLLM2_NOTE, SMOLLM2_PATH } from '../../../test/support/smollm2.js';
import type { Sampling } from '../../chat/chat-client.js';
import { packageRoot } from '../../core/package.js';
import { WorkerThread } from '../../core/worker-thread.js';
import type { InferenceEngine } from '../inference-engine.js';
import { LanguageModel } from '../language-model.js';
import type { Completion, GenerationRequest } from '../requests.js';

let model: LanguageModel;
let engine: InferenceEngine;
let prompts: Int32Array[];

beforeAll(async () => {
  model = await LanguageModel.load({ modelPath: `${packageRoot}/models/pocket/pocket.gguf`, device: 'cpu', threads: 1 });
  engine = await model.createContext({ contextTokens: 1024, maxRequests: 4, batchTokens: 64 });
  prompts = ['The lamp of the', 'one two three one two', 'The bell of the harbour is old. The'].map((text) =>
    model.tokenizer.encode(text),
  );
});
afterAll(() => model.dispose());

/** Adds nothing to any logit, and keeps the choice of tokens on the event loop. */
const ON_THE_EVENT_LOOP = { logitBias: new Map([[0, 0]]) };

const untimed = ({ timings: _, ...rest }: Completion) => rest;
const complete = async (request: GenerationRequest) => untimed(await engine.complete(request));

it.each<[string, Sampling]>([
  ['the best', { temperature: 0 }],
  ['any', { temperature: 1, seed: 7 }],
  ['some, by temperature and filters', { temperature: 1.4, topK: 20, topP: 0.9, minP: 0.01, seed: 8 }],
])('chooses the same tokens as the event loop, with the same log-probs: %s', async (_, sampling) => {
  for (const topLogprobs of [undefined, 0, 5]) {
    const request = {
      prompt: prompts[0]!,
      maxTokens: 30,
      ignoreEndOfGeneration: true,
      ...(topLogprobs !== undefined && { topLogprobs }),
    };
    const chosen = await complete({ ...request, sampling });
    const onEventLoop = await complete({ ...request, sampling: { ...sampling, ...ON_THE_EVENT_LOOP } });
    expect(chosen).toEqual(onEventLoop);
    expect(chosen.logprobs).toHaveLength(topLogprobs === undefined ? 0 : 30);
  }
});

it('lets an answer end where it ends, and frees its room', async () => {
  const whole = await complete({ prompt: prompts[2]!, maxTokens: 40, sampling: { temperature: 0 }, ignoreEndOfGeneration: true });
  const stop = [whole.text.slice(12, 15)];
  const stopped = await complete({ prompt: prompts[2]!, maxTokens: 40, sampling: { temperature: 0 }, stop });
  expect(stopped.finishReason).toBe('stop');
  expect(whole.text.startsWith(stopped.text)).toBe(true);
  expect(stopped.tokens.length).toBeLessThan(40);
  await engine.whenIdle();
  expect(engine.freeCells).toBe(engine.contextTokens);
});

it('decodes nothing behind the end of a turn', async () => {
  const serving = await model.createContext({ contextTokens: 1024, maxRequests: 1, batchTokens: 64, retainTurns: true });
  const prompt = model.tokenizer.encode('<|im_start|>user\nWho keeps the bell?<|im_end|>\n<|im_start|>assistant\n', {
    parseSpecial: true,
  });
  for (const each of [engine, serving]) {
    const { decodeCalls } = each.statistics;
    const answer = await each.complete({ prompt, maxTokens: 300, sampling: { temperature: 0 } });
    expect(answer.finishReason).toBe('stop');
    expect(answer.tokens.length).toBeGreaterThan(3);
    await each.whenIdle();
    expect(each.statistics.decodeCalls - decodeCalls).toBe(answer.tokens.length);
  }
});

describe.skipIf(!HAS_SMOLLM2)(`with the vocabulary of SmolLM2-135M${SMOLLM2_NOTE}`, () => {
  it('chooses with several threads the same tokens as the event loop, in the same batches', async () => {
    const large = await LanguageModel.load({ modelPath: SMOLLM2_PATH, device: 'cpu', threads: 2 });
    const many = await large.createContext({ contextTokens: 1024, maxRequests: 16, batchTokens: 256 });
    const asked = vi.spyOn(WorkerThread.prototype, 'request');
    const completeAll = (change: Partial<Sampling>) =>
      Promise.all(
        Array.from({ length: 16 }, async (_, index) => {
          const sampling = index % 2 === 0 ? { temperature: 0 } : { temperature: 1, topP: 0.9, seed: index };
          const prompt = large.tokenizer.encode(`The lamp of number ${index} is`);
          const topLogprobs = index % 4 === 0 ? undefined : 20;
          const request = { prompt, maxTokens: 6, ignoreEndOfGeneration: true, sampling: { ...sampling, ...change } };
          return untimed(await many.complete({ ...request, ...(topLogprobs !== undefined && { topLogprobs }) }));
        }),
      );
    const onEventLoop = await completeAll(ON_THE_EVENT_LOOP);
    expect(asked.mock.calls.map(([kind]) => kind)).not.toContain('haveHelpers');
    expect(await completeAll({})).toEqual(onEventLoop);
    expect(asked.mock.calls.map(([kind]) => kind)).toContain('haveHelpers');
    await large.dispose();
  });
});
