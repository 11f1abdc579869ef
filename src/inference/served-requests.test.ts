import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { randomCartridge } from '../../test/support/cartridges.js';
import type { Cartridge } from '../cartridge/cartridge.js';
import { Random } from '../core/random.js';
import type { CartridgeHandle, CartridgeSource } from './cartridge-handle.js';
import { JSON_OBJECT_GRAMMAR, jsonSchemaToGrammar } from './grammar/json-schema-grammar.js';
import type { EngineSettings, InferenceEngine } from './inference-engine.js';
import { LanguageModel } from './language-model.js';
import type { GeneratedToken, GenerationRequest } from './requests.js';

const GREEDY = { temperature: 0 };
const STORY = 'The harbour master keeps a brass key in a blue tin. Every morning at six she opens the gate for the ferry. ';

let model: LanguageModel;
let engine: InferenceEngine;

beforeAll(async () => {
  model = await LanguageModel.load({ modelPath: 'models/pocket/pocket.gguf', device: 'cpu', threads: 1 });
});
afterEach(() => engine.dispose());
afterAll(() => model.dispose());

async function start(settings: EngineSettings = {}): Promise<void> {
  engine = await model.createContext({ contextTokens: 1024, maxRequests: 4, batchTokens: 64, retainTurns: true, ...settings });
}

const encode = (text: string) => model.tokenizer.encode(text);
const request = (prompt: Int32Array | string, more: Partial<GenerationRequest> = {}): GenerationRequest => ({
  prompt: typeof prompt === 'string' ? encode(prompt) : prompt,
  maxTokens: 12,
  sampling: GREEDY,
  ignoreEndOfGeneration: true,
  ...more,
});

/** A cartridge of random rows that the model takes, small enough not to drown what it says. */
function cartridgeOf(seed: number, tokenCount: number): Cartridge {
  const { layers, kvHeads, headDimension } = model.config;
  const random = new Random(seed);
  const rows = () =>
    Array.from({ length: layers }, () =>
      Float32Array.from({ length: tokenCount * kvHeads * headDimension }, () => random.normal() / 4),
    );
  const rest = randomCartridge(1);
  return { ...rest, model: { ...rest.model, layers, kvHeads, headDimension }, tokenCount, keys: rows(), values: rows() };
}

function sourceOf(seed: number, tokenCount: number): CartridgeSource & { reads: number } {
  const cartridge = cartridgeOf(seed, tokenCount);
  const source = { key: `sha-${seed}`, tokenCount, model: cartridge.model, reads: 0, read: async () => cartridge };
  source.read = async () => {
    source.reads++;
    await setImmediate();
    return cartridge;
  };
  return source;
}

/** What is counted adds up to all cells. */
function usage() {
  const { cells, freeCells, requestCells, cartridgeCells, cachedTurnCells } = engine.usage;
  expect(freeCells + requestCells + cartridgeCells + cachedTurnCells).toBe(cells);
  return engine.usage;
}

describe('turns that are kept', () => {
  it('are not computed again, and change nothing in what is said', async () => {
    await start();
    const first = encode(STORY.repeat(3));
    const answer = await engine.complete(request(first));
    expect(answer.usage.cachedPromptTokens).toBe(0);
    const second = Int32Array.of(...first, ...answer.tokens, ...encode(' The key is'));
    const reused = await engine.complete(request(second));
    // All that was computed: the last token of the answer was never read.
    expect(reused.usage.cachedPromptTokens).toBe(first.length + answer.tokens.length - 1);
    const again = await engine.complete(request(second));
    expect(again.usage.cachedPromptTokens).toBe(second.length - 1);
    const before = engine.statistics;
    expect(before.promptTokens + before.cachedPromptTokens).toBe(first.length + 2 * second.length);
    const plain = await model.createContext({ contextTokens: 1024, batchTokens: 64 });
    expect(reused.text).toBe((await plain.complete(request(second))).text);
    expect(again.text).toBe(reused.text);
    expect(usage().cachedTurnCells).toBe(second.length + 11);
    await plain.dispose();
  });

  it('are given up when room is needed, the oldest first', async () => {
    await start({ contextTokens: 256 });
    const [a, b, c] = ['a', 'b', 'c'].map((word) => encode(`${word} ${STORY.repeat(4)}`).subarray(0, 100)) as [
      Int32Array,
      Int32Array,
      Int32Array,
    ];
    for (const prompt of [a, b, a, c]) await engine.complete(request(prompt));
    expect((await engine.complete(request(a))).usage.cachedPromptTokens).toBe(99);
    expect((await engine.complete(request(b))).usage.cachedPromptTokens).toBeLessThan(5);
    await engine.whenIdle();
    expect(usage().requestCells).toBe(0);
  });

  it('are not seen from another scope', async () => {
    await start();
    const prompt = encode(STORY);
    await engine.complete(request(prompt, { scope: 'ada' }));
    expect((await engine.complete(request(prompt, { scope: 'bob' }))).usage.cachedPromptTokens).toBe(0);
    expect((await engine.complete(request(prompt, { scope: 'ada' }))).usage.cachedPromptTokens).toBe(prompt.length - 1);
  });

  it('are computed once for requests of one tick that begin alike', async () => {
    await start();
    const prefix = encode(STORY.repeat(4));
    const prompts = [' She', ' The ferry', ' He', ' At six'].map((end) => Int32Array.of(...prefix, ...encode(end)));
    const answers = await Promise.all(prompts.map((prompt) => engine.complete(request(prompt))));
    expect(answers.map((answer) => answer.usage.cachedPromptTokens >= prefix.length)).toEqual([false, true, true, true]);
    await engine.whenIdle();
    const ends = prompts.reduce((sum, prompt) => sum + prompt.length - prefix.length, 0);
    expect(engine.statistics.promptTokens).toBe(prefix.length + ends);
    expect(usage().cachedTurnCells).toBe(prefix.length + ends + 4 * 11);
  });

  it('stay when a request behind them is cancelled, whose own cells are free at once', async () => {
    await start();
    const prompt = encode(STORY);
    await engine.complete(request(prompt));
    const { freeCells } = usage();
    const controller = new AbortController();
    const longer = Int32Array.of(...prompt, ...encode(STORY));
    const cancelled = engine.complete(request(longer, { maxTokens: 300, signal: controller.signal }));
    const rejected = expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' });
    for await (const _ of engine.generate(request('Once', { maxTokens: 3, scope: 'other' }))) controller.abort();
    await rejected;
    await engine.whenIdle();
    expect(usage().freeCells).toBe(freeCells - (encode('Once').length + 2));
    expect((await engine.complete(request(prompt))).usage.cachedPromptTokens).toBe(prompt.length - 1);
  });
});

describe('turns that have left the cache', () => {
  const settings = { keptTurnCells: 0, storedTurnBytes: 1 << 24 };

  it('come back, behind their cartridges, and change nothing in what is said', async () => {
    const first = encode(STORY.repeat(3));
    const says = async (more: EngineSettings) => {
      await start(more);
      const cartridges = [1, 2].map((seed) => engine.addCartridge(sourceOf(seed, 20)));
      const ask = (prompt: Int32Array) => engine.complete(request(prompt, { cartridges, topLogprobs: 3 }));
      const answer = await ask(first);
      await engine.whenIdle();
      const left = { cells: usage().cachedTurnCells, bytes: usage().storedTurnBytes };
      const second = await ask(Int32Array.of(...first, ...answer.tokens, ...encode(' The key is')));
      const third = await ask(Int32Array.of(...first.subarray(0, 40), ...encode(' The ferry is')));
      return { left, said: [second, third].map(({ timings: _, ...said }) => said) };
    };
    const kept = await says({});
    await engine.dispose();
    const stored = await says(settings);
    expect(kept.left).toEqual({ cells: first.length + 11, bytes: 0 });
    expect(stored.left).toEqual({ cells: 0, bytes: expect.any(Number) });
    expect(stored.left.bytes).toBeGreaterThan((first.length + 11) * engine.kvBytesPerToken);
    expect(stored.said.map((each) => each.usage.cachedPromptTokens)).toEqual([first.length + 11, 40]);
    // The same bits: the rows are copies.
    expect(stored.said).toEqual(kept.said);
    expect(usage().lostTurns).toBe(0);
  });

  it('are not seen from another scope, and go with their cartridge', async () => {
    await start(settings);
    const cartridge = engine.addCartridge(sourceOf(1, 20));
    const cached = async (scope: string) => {
      const { usage } = await engine.complete(request(STORY, { cartridges: [cartridge], scope }));
      await engine.whenIdle();
      return usage.cachedPromptTokens;
    };
    const all = encode(STORY).length - 1;
    expect([await cached('ada'), await cached('bob'), await cached('ada')]).toEqual([0, 0, all]);
    expect(await engine.evict(cartridge)).toBe(true);
    expect(usage().storedTurnBytes).toBe(0);
    expect(await cached('ada')).toBe(0);
  });
});

describe('cartridges that come and go', () => {
  const ask = (cartridges: CartridgeHandle[]) => engine.complete(request('The key', { cartridges }));

  it('are read when they are needed, given up for others, and read again', async () => {
    await start({ contextTokens: 256 });
    const sources = [sourceOf(1, 120), sourceOf(2, 120)];
    const [first, second] = sources.map((source) => engine.addCartridge(source)) as [CartridgeHandle, CartridgeHandle];
    expect(engine.isResident(first)).toBe(false);
    const answer = await ask([first]);
    expect(engine.isResident(first)).toBe(true);
    await ask([second]);
    expect(usage()).toMatchObject({ cartridgeCells: 240, residentCartridges: 2 });
    const third = engine.addCartridge(sourceOf(3, 100));
    await ask([third]);
    expect([first, second, third].map((handle) => engine.isResident(handle))).toEqual([false, true, true]);
    expect(await ask([first])).toMatchObject({ text: answer.text });
    expect(sources.map(({ reads }) => reads)).toEqual([2, 1]);
  });

  it('share their rows among scopes, and between two of the same key', async () => {
    await start();
    const source = sourceOf(1, 100);
    const [first, second] = [engine.addCartridge(source), engine.addCartridge(source)];
    await Promise.all([
      engine.complete(request('The key', { cartridges: [first], scope: 'ada' })),
      engine.complete(request('The key', { cartridges: [second], scope: 'bob' })),
    ]);
    expect(usage().cartridgeCells).toBe(100);
    await engine.removeCartridge(first);
    expect(engine.isResident(second)).toBe(true);
    await expect(ask([first])).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    await engine.removeCartridge(second);
    expect(usage()).toMatchObject({ cartridgeCells: 0, cachedTurnCells: 0, freeCells: engine.contextTokens });
  });

  it('are dropped on request, but not while they are used', async () => {
    await start();
    const handle = engine.addCartridge(sourceOf(1, 50));
    await engine.preload(handle);
    expect(engine.isResident(handle)).toBe(true);
    const answer = ask([handle]);
    expect(await engine.evict(handle)).toBe(false);
    await answer;
    expect(await engine.evict(handle)).toBe(true);
    expect(usage().freeCells).toBe(engine.contextTokens);
    const pinned = await engine.loadCartridge(cartridgeOf(2, 10));
    expect(await engine.evict(pinned)).toBe(false);
    await engine.unloadCartridge(pinned);
  });

  it('stand behind each other, as the ones that stay do', async () => {
    await start();
    const sources = [sourceOf(1, 20), sourceOf(2, 30)];
    const handles = sources.map((source) => engine.addCartridge(source));
    const pinned = [await engine.loadCartridge(cartridgeOf(1, 20)), await engine.loadCartridge(cartridgeOf(2, 30))];
    expect((await ask(handles)).text).toBe((await ask(pinned)).text);
    expect((await ask(handles)).usage).toMatchObject({ promptTokens: encode('The key').length });
  });

  it('do not hold up others while they are read, and can be given up on meanwhile', async () => {
    await start();
    let arrive = () => {};
    const arrival = new Promise<void>((resolve) => (arrive = resolve));
    const source = sourceOf(1, 40);
    const handle = engine.addCartridge({ ...source, read: () => arrival.then(() => source.read()) });
    const controller = new AbortController();
    const given = engine.complete(request('The key', { cartridges: [handle], signal: controller.signal }));
    const waiting = ask([handle]);
    expect((await engine.complete(request('Once'))).tokens).toHaveLength(12);
    await setImmediate();
    expect(engine.usage).toMatchObject({ waiting: 2, running: 0 });
    controller.abort();
    await expect(given).rejects.toMatchObject({ code: 'CANCELLED' });
    arrive();
    expect((await waiting).tokens).toHaveLength(12);
  });

  it('fail the requests that need them when they cannot be read, and are tried again for the next ones', async () => {
    await start();
    const source = sourceOf(1, 40);
    let broken = true;
    const read = async () => (broken ? Promise.reject(new Error('the disk is gone')) : source.read());
    const handle = engine.addCartridge({ ...source, read });
    const refused = await Promise.allSettled([ask([handle]), ask([handle]), engine.preload(handle)]);
    expect(refused.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    broken = false;
    expect((await ask([handle])).tokens).toHaveLength(12);
    const other = engine.addCartridge({ ...sourceOf(2, 41), read: source.read });
    await expect(ask([other])).rejects.toMatchObject({ code: 'INVALID_CARTRIDGE' });
    expect(() => engine.addCartridge({ ...source, model: { layers: 1, kvHeads: 1, headDimension: 2 } })).toThrow(
      expect.objectContaining({ code: 'CARTRIDGE_MISMATCH' }),
    );
  });
});

describe('a grammar', () => {
  const schema = {
    type: 'object',
    properties: { name: { type: 'string', maxLength: 12 }, sails: { type: 'boolean' }, at: { type: ['integer', 'null'] } },
    required: ['name', 'sails', 'at'],
  };
  const ask = (grammar: string, seed: number) =>
    engine.complete({ prompt: encode(STORY), maxTokens: 120, sampling: { temperature: seed ? 1 : 0, seed }, grammar });

  it('gives JSON that follows its schema, whatever the seed', async () => {
    await start();
    for (let seed = 0; seed < 6; seed++) {
      const { text, finishReason } = await ask(jsonSchemaToGrammar(schema), seed);
      expect(finishReason).toBe('stop');
      const value = JSON.parse(text);
      expect(Object.keys(value)).toEqual(['name', 'sails', 'at']);
      expect(typeof value.name).toBe('string');
      expect(typeof value.sails).toBe('boolean');
      expect(value.at === null || Number.isInteger(value.at)).toBe(true);
    }
  });

  it('gives some object without a schema, or its beginning', async () => {
    await start();
    const { text, finishReason } = await ask(JSON_OBJECT_GRAMMAR, 3);
    expect(text).toMatch(/^\{/);
    if (finishReason === 'stop') expect(() => JSON.parse(text)).not.toThrow();
  });

  it('keeps the draws of requests apart, and leaves log-probs those of the model', async () => {
    await start();
    const grammar = 'root ::= "yes" | "no"';
    const asked = { ...request(STORY), grammar, topLogprobs: 5, ignoreEndOfGeneration: false };
    const [constrained, free] = await Promise.all([engine.complete(asked), engine.complete({ ...asked, grammar: undefined })]);
    expect(constrained.text).toMatch(/^(yes|no)$/);
    expect(constrained.logprobs[0]).toBeLessThan(free.logprobs[0]!);
    expect([...constrained.topLogprobs[0]!.tokenIds]).toEqual([...free.topLogprobs[0]!.tokenIds]);
  });

  it('is refused when it is none, and followed through characters of several tokens', async () => {
    await start();
    await expect(ask('root ::= (', 0)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    expect((await ask('root ::= "on 漢"', 0)).text).toBe('on 漢');
  });
});

describe('what a request adds to logits', () => {
  it('forces and forbids tokens', async () => {
    await start();
    const free = await engine.complete(request(STORY));
    const [forced] = encode(' key') as unknown as [number];
    const only = await engine.complete(request(STORY, { sampling: { ...GREEDY, logitBias: new Map([[forced, 100]]) } }));
    expect(new Set(only.tokens)).toEqual(new Set([forced]));
    const bias = new Map([...free.tokens].map((token) => [token, -100] as const));
    const without = await engine.complete(
      request(STORY, { sampling: { temperature: 1, seed: 4, logitBias: bias }, maxTokens: 60 }),
    );
    expect([...without.tokens].some((token) => bias.has(token))).toBe(false);
    await expect(
      engine.complete(request(STORY, { sampling: { ...GREEDY, logitBias: new Map([[1e6, 1]]) } })),
    ).rejects.toMatchObject({
      code: 'INVALID_OPTION',
    });
  });

  it('makes what was said less likely', async () => {
    await start();
    const looping = request('na na na na na na na na na na', { maxTokens: 40 });
    const different = async (sampling: object) =>
      new Set((await engine.complete({ ...looping, sampling: { ...GREEDY, ...sampling } })).tokens).size;
    const free = await different({});
    expect(await different({ frequencyPenalty: 2 })).toBeGreaterThan(free);
    expect(await different({ presencePenalty: 2 })).toBeGreaterThan(free);
  });
});

it('says at the end of a stream what it has used', async () => {
  await start();
  const tokens: GeneratedToken[] = [];
  for await (const token of engine.generate(request(STORY))) tokens.push(token);
  expect(tokens.at(-1)!.usage).toEqual({ promptTokens: encode(STORY).length, completionTokens: 12, cachedPromptTokens: 0 });
  expect(tokens.slice(0, -1).every((token) => token.usage === undefined)).toBe(true);
});
