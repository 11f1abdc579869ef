import { afterAll, beforeAll, expect, it } from 'vitest';
import { goldenCartridge } from '../../test/support/cartridges.js';
import { readGolden } from '../../test/support/golden.js';
import type { ChatRequest } from '../chat/chat-client.js';
import { ChatFraming } from '../models/chat-framing.js';
import { readGguf } from '../models/gguf.js';
import type { InferenceEngine } from './inference-engine.js';
import { LanguageModel } from './language-model.js';
import { LocalChatClient } from './local-chat-client.js';

const golden = readGolden('tiny-qwen2');
let model: LanguageModel;
let engine: InferenceEngine;
let framing: ChatFraming;

beforeAll(async () => {
  model = await LanguageModel.load({ modelPath: golden.path, device: 'cpu', threads: 1 });
  engine = await model.createContext({ maxRequests: 8 });
  framing = new ChatFraming({
    template: readGguf(golden.path).string('tokenizer.chat_template'),
    bosToken: model.tokenizer.bosText,
    eosToken: model.tokenizer.eosText,
    tokenizer: model.tokenizer,
  });
});
afterAll(() => model.dispose());

const request = (question: string, system?: string): ChatRequest => ({
  messages: [...(system ? [{ role: 'system' as const, content: system }] : []), { role: 'user', content: question }],
  maxTokens: 5,
  sampling: { temperature: 0 },
  topLogprobs: 4,
});

it('answers with tokens, cut log-probs and usage', async () => {
  const client = new LocalChatClient({ engine, framing });
  const asked = request('Who has the key?');
  const answer = await client.chat(asked);
  const prompt = framing.encodeChat(asked.messages, { addGenerationPrompt: true });
  const completion = await engine.complete({ prompt, maxTokens: 5, sampling: { temperature: 0 } });
  expect(answer.tokenIds).toEqual(completion.tokens);
  expect(answer.text).toBe(completion.text);
  expect(answer.usage).toEqual({ promptTokens: prompt.length, completionTokens: 5, cachedPromptTokens: 0 });
  expect(answer.topLogprobs).toMatchObject({ rows: 5, k: 4 });
  expect((await client.chat({ ...asked, topLogprobs: 0 })).topLogprobs).toBeUndefined();
});

it('computes a system message once for the chats of one tick', async () => {
  const client = new LocalChatClient({ engine, framing });
  const system = 'The blue ferry sails at ten. Mara Quill keeps the brass key.';
  const questions = ['about the ferry?', 'b', 'about the key?', 'Who?'];
  const answers = await Promise.all(questions.map((question) => client.chat(request(question, system))));
  const prefix = answers.map(({ usage }) => usage.cachedPromptTokens);
  const systemTokens = framing.encodeSystemPrefix(system).length;
  expect(prefix[0]).toBe(0);
  for (const cached of prefix.slice(1)) expect(cached).toBeGreaterThanOrEqual(systemTokens);
  await engine.whenIdle();
  const alone = await client.chat(request(questions[1]!, system));
  expect(answers[1]!.tokenIds).toEqual(alone.tokenIds);
});

it('computes a system message once for ticks that belong together', async () => {
  const client = new LocalChatClient({ engine, framing });
  const system = 'The blue ferry sails at ten. Mara Quill keeps the brass key.';
  const systemTokens = framing.encodeSystemPrefix(system).length;
  await engine.whenIdle();
  const answers = await client.together(async () => {
    const first = await client.chat(request('about the ferry?', system));
    await engine.whenIdle();
    expect(engine.freeCells).toBeLessThan(engine.contextTokens);
    return [first, await client.chat(request('about the key?', system))];
  });
  expect(answers[0]!.usage.cachedPromptTokens).toBe(0);
  expect(answers[1]!.usage.cachedPromptTokens).toBeGreaterThanOrEqual(systemTokens);
  await engine.whenIdle();
  expect(engine.freeCells).toBe(engine.contextTokens);
  await expect(client.together(() => Promise.reject(new Error('no')))).rejects.toThrow('no');
});

it('puts turns without any system text behind a cartridge', async () => {
  const handle = await engine.loadCartridge(goldenCartridge(golden, 'cartridge', golden.cartridge.rows));
  const client = new LocalChatClient({ engine, framing, cartridges: [handle] });
  const asked = request('Who has the key?');
  const answer = await client.chat(asked);
  const turns = framing.encodeTurns(asked.messages, { addGenerationPrompt: true, bos: false });
  expect(answer.usage.promptTokens).toBe(turns.length);
  const direct = await engine.complete({
    prompt: turns,
    cartridges: [handle],
    maxTokens: 5,
    sampling: { temperature: 0 },
  });
  expect(answer.tokenIds).toEqual(direct.tokens);
  await expect(client.chat(request('Who?', 'a system message'))).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  await engine.unloadCartridge(handle);
});

it('leaves the default system text out on request', async () => {
  const [plain, bare] = await Promise.all(
    [false, true].map((turnsOnly) => new LocalChatClient({ engine, framing, turnsOnly }).chat(request('Who?'))),
  );
  expect(plain!.usage.promptTokens).toBeGreaterThan(bare!.usage.promptTokens);
});
