import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ChatClient, ChatRequest, ChatResponse } from '../chat/chat-client.js';
import { CartridgesError } from '../core/errors.js';
import * as files from '../core/files.js';
import { sha256File } from '../core/hashing.js';
import type { ProgressEvent } from '../core/progress.js';
import { toSparseLogprobs } from '../core/sparse-logprobs.js';
import type { Chunk } from '../corpus/resource.js';
import { readManifest } from './dataset/manifest.js';
import { loadConversations, openDataset } from './dataset/open-dataset.js';
import { BUILT_IN_PROMPTS } from './seed-prompts.js';
import type { SynthesisSettingsInput } from './synthesis-settings.js';
import { ENOUGH, type SynthesizeOptions, synthesize } from './synthesize.js';

vi.mock('../core/files.js', { spy: true });

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'synthesis-'));
});

afterEach(async () => {
  vi.restoreAllMocks();
  await rm(root, { recursive: true });
});

const chunks: Chunk[] = ['alpha', 'beta', 'gamma'].map((text, n) => ({
  id: `doc:${n}`,
  documentId: 'doc',
  text,
  start: n,
  end: n + text.length,
  contentHash: text,
}));

/** Answers from the request alone. `answer` may return something else or throw; requests finish in random order. */
class ScriptedClient implements ChatClient {
  readonly capabilities = { topLogprobs: 20, tokenIds: true, cartridges: false };
  readonly requests: ChatRequest[] = [];
  readonly batches: number[] = [];
  readonly #script: (request: ChatRequest, call: number) => Partial<ChatResponse> | undefined;
  #tick = 0;
  #lastTick = -1;

  constructor(script: (request: ChatRequest, call: number) => Partial<ChatResponse> | undefined = () => undefined) {
    this.#script = script;
  }

  async chat(request: ChatRequest, signal?: AbortSignal): Promise<ChatResponse> {
    this.#countBatch();
    const call = this.requests.push(request);
    await delay(Math.random() * 3, undefined, { signal });
    return { ...respond(request), ...this.#script(request, call) };
  }

  /** Calls of one tick are one batch. */
  #countBatch(): void {
    if (this.#lastTick !== this.#tick) {
      this.#lastTick = this.#tick;
      this.batches.push(0);
      setImmediate(() => this.#tick++);
    }
    this.batches[this.batches.length - 1]++;
  }
}

const isQuestion = (request: ChatRequest) => request.sampling.temperature > 0;

function respond(request: ChatRequest): ChatResponse {
  const usage = { promptTokens: 1, completionTokens: 2, cachedPromptTokens: 0 };
  if (isQuestion(request)) return { text: ` What is ${request.sampling.seed}?\n`, finishReason: 'stop', usage };
  const rows = [0, 1].map((n) => ({ tokenIds: Int32Array.of(n, 5), logprobs: Float32Array.of(-0.1, -3) }));
  const text = `Answer to ${request.messages[1].content}`;
  return { text, finishReason: 'stop', tokenIds: Int32Array.of(3, 2), topLogprobs: toSparseLogprobs(rows, 20), usage };
}

function run(
  folder: string,
  client: ChatClient,
  settings: Partial<SynthesisSettingsInput> = {},
  rest: Partial<SynthesizeOptions> = {},
) {
  return synthesize({
    folder: join(root, folder),
    chunks,
    prompts: BUILT_IN_PROMPTS,
    client,
    teacher: { model: 'scripted' },
    settings: { conversations: 22, concurrency: 4, seed: 1, groupsPerShard: 2, ...settings },
    ...rest,
  });
}

/** The manifest and the hashes of all files. */
async function readBytes(folder: string): Promise<Record<string, string>> {
  const names = (await readdir(join(root, folder))).sort();
  const hashes = await Promise.all(names.map((name) => sha256File(join(root, folder, name))));
  const manifest = await readFile(join(root, folder, 'manifest.json'), 'utf8');
  return { ...Object.fromEntries(names.map((name, i) => [name, hashes[i]])), manifest };
}

const load = async (folder: string) => loadConversations(await openDataset(join(root, folder)));

describe('synthesize', () => {
  it('asks and answers every planned conversation', async () => {
    const client = new ScriptedClient();
    const events: ProgressEvent[] = [];
    const report = await run('a', client, {}, { onProgress: (event) => events.push(event) });
    expect(report).toMatchObject({ attempted: 22, kept: 22, failed: 0, shards: 3, resumedAt: 0, answerTokens: 44 });

    const [first, ...others] = await load('a');
    expect(others).toHaveLength(21);
    expect(first.messages.map(({ role }) => role)).toEqual(['user', 'assistant']);
    expect(first.messages[0].content).toMatch(/^What is \d+\?$/);
    expect(first.messages[1]).toMatchObject({ content: `Answer to ${first.messages[0].content}`, tokenIds: Int32Array.of(3, 2) });
    expect(first.messages[1].topLogprobs).toMatchObject({ rows: 2, k: 20 });
    const chunk = chunks.find(({ id }) => id === first.metadata.chunkId);
    expect(first.systemPrompt).toContain(chunk?.text);

    expect(events.at(0)).toMatchObject({ kind: 'start', total: 22 });
    expect(events.filter(({ kind }) => kind === 'progress').map((event) => event.kind === 'progress' && event.done)).toEqual([
      4, 8, 12, 16, 20, 22,
    ]);
    expect(events.at(-1)).toMatchObject({ kind: 'end', message: 'kept 22 of 22 conversations' });
  });

  it('shows role B the chunk and the question only, and asks for its log-probs', async () => {
    const client = new ScriptedClient();
    await run('a', client);
    const [a, b] = [client.requests[0], client.requests[4]];
    expect(a).toMatchObject({ sampling: { temperature: 0.7 }, endRepetition: true });
    expect(a.topLogprobs).toBeUndefined();
    expect(b).toMatchObject({ sampling: { temperature: 0 }, endRepetition: true, topLogprobs: 20, minProbabilityMass: 0.99 });
    expect(b.messages[0]).toEqual(a.messages[0]);
    expect(b.messages).toHaveLength(2);
    expect(Object.values(BUILT_IN_PROMPTS.seedPrompts).flat()).toContain(a.messages[1].content);
    expect(b.messages[1].content).toBe(`What is ${a.sampling.seed}?`);
  });

  it('issues all requests of a phase in one tick', async () => {
    const client = new ScriptedClient();
    await run('a', client);
    expect(client.batches).toEqual([4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2, 2]);
  });

  it('is byte-equal under random delays, and another seed is not', async () => {
    await run('a', new ScriptedClient());
    await run('b', new ScriptedClient());
    await run('c', new ScriptedClient(), { seed: 2 });
    expect(await readBytes('a')).toEqual(await readBytes('b'));
    expect(await readBytes('c')).not.toEqual(await readBytes('a'));
  });
});

describe('filters', () => {
  /** Log-probs of an answer of two tokens: the first is sure, the second has this probability. */
  const withProbability = (probability: number) => {
    const bests = [0.9, probability].map(Math.log);
    const rows = bests.map((best) => ({ tokenIds: Int32Array.of(1, 5), logprobs: Float32Array.of(best, -3) }));
    return { topLogprobs: toSparseLogprobs(rows, 20) };
  };

  /** Few different questions, some empty, some cut; some answers cut, some unsure. */
  const messy = () =>
    new ScriptedClient((request) => {
      if (!isQuestion(request)) {
        const question = request.messages[1].content;
        if (question.endsWith('3')) return { finishReason: 'length' };
        return withProbability(question.endsWith('2') ? 0.4 : 0.6);
      }
      const text = ['', 'Why 1', 'why  1?', 'How 2', 'Who 3'][(request.sampling.seed as number) % 5];
      return { text, finishReason: (request.sampling.seed as number) % 11 === 0 ? 'length' : 'stop' };
    });

  it('drop duplicates within a chunk, empty ones and those that were cut, and count them', async () => {
    const report = await run('a', messy(), { conversations: 60 });
    const { kept, duplicate, empty, truncated } = report;
    expect(kept + duplicate + empty + truncated).toBe(60);
    expect(Math.min(duplicate, empty, truncated)).toBeGreaterThan(0);
    const asked = (await load('a')).map(({ messages, metadata }) => `${metadata.chunkId} ${messages[0].content}`);
    expect(asked).toHaveLength(kept);
    expect(new Set(asked.map((question) => question.toLowerCase().replace(/\s+|\?/g, ''))).size).toBe(kept);
    expect(asked.length).toBeGreaterThan(3);
  });

  it('can drop duplicates in the whole corpus', async () => {
    const report = await run('a', messy(), { conversations: 60, duplicates: 'corpus' });
    expect(report.kept).toBe(2);
  });

  it('can be turned off, and flaws are still counted', async () => {
    const off = { duplicates: 'keep', keepEmpty: true, keepTruncated: true } as const;
    const report = await run('a', messy(), { conversations: 60, ...off });
    expect(report).toMatchObject({ attempted: 60, kept: 60, failed: 0 });
    expect(Math.min(report.duplicate, report.empty, report.truncated)).toBeGreaterThan(0);
  });

  it('drop answers with a token that the teacher was unsure of, where that is asked for, and count them', async () => {
    const client = () =>
      new ScriptedClient((request, call) => {
        if (isQuestion(request)) return undefined;
        return withProbability(call % 2 === 0 ? 0.6 : 0.4);
      });
    expect(await run('a', client())).toMatchObject({ kept: 22, unsure: 0 });
    const report = await run('b', client(), { minTokenProbability: 0.5 });
    expect(report).toMatchObject({ kept: 11, unsure: 11, failed: 0 });
    for (const { messages } of await load('b')) expect(messages[1].topLogprobs?.logprob[2]).toBeCloseTo(Math.log(0.6));
    expect(await run('c', client(), { minTokenProbability: 0.61 })).toMatchObject({ kept: 0, unsure: 22 });
  });

  it('keep the same answer to another question about a chunk, unless told otherwise, and count it', async () => {
    const client = () => new ScriptedClient((request) => (isQuestion(request) ? undefined : { text: 'The captain is Ada.' }));
    const events: ProgressEvent[] = [];
    const onProgress = (event: ProgressEvent) => events.push(event);
    expect(await run('a', client(), {}, { onProgress })).toMatchObject({ kept: 22, duplicate: 0, repeated: 19 });
    expect(events.at(-1)).toMatchObject({ message: 'kept 22 of 22 conversations (kept: 19 repeated)' });
    expect(await run('b', client(), { keepRepeated: false }, { onProgress })).toMatchObject({
      kept: 3,
      duplicate: 0,
      repeated: 19,
    });
    expect(events.at(-1)).toMatchObject({ message: 'kept 3 of 22 conversations (left out: 19 repeated)' });
    const chunks = (await load('b')).map(({ metadata }) => metadata.chunkId);
    expect(new Set(chunks).size).toBe(3);
  });

  it('count an answer once, as what is worse about it', async () => {
    const client = new ScriptedClient((request) => (isQuestion(request) ? undefined : { text: 'The', finishReason: 'length' }));
    const cut = { truncated: 22, repeated: 0 };
    expect(await run('a', client, { keepTruncated: true })).toMatchObject({ kept: 22, ...cut });
    expect(await run('b', client, { keepTruncated: true, keepRepeated: false })).toMatchObject({ kept: 3, ...cut });
  });

  it('do not ask role B a duplicate question', async () => {
    const client = new ScriptedClient((request) => (isQuestion(request) ? { text: 'Why?' } : undefined));
    const report = await run('a', client);
    expect(report).toMatchObject({ kept: 3, duplicate: 19 });
    expect(client.requests.filter((request) => !isQuestion(request))).toHaveLength(3);
  });

  it.each([
    { conversations: 60 },
    { conversations: 60, duplicates: 'corpus' },
    { conversations: 60, minTokenProbability: 0.5 },
    { conversations: 60, keepRepeated: false },
    { conversations: 60, duplicates: 'keep', keepEmpty: true, keepTruncated: true },
  ] as const)('give the same dataset after an interruption: %o', async (settings) => {
    await run('whole', messy(), settings);
    for (let stopAt = 20; ; stopAt += 25) {
      const controller = new AbortController();
      const client = messy();
      const onProgress = (event: ProgressEvent) => {
        if (event.kind === 'progress' && event.done >= stopAt) controller.abort();
      };
      const finished = await run('parts', client, settings, { signal: controller.signal, onProgress }).catch((error) => error);
      if (!(finished instanceof Error)) break;
      expect(finished).toMatchObject({ code: 'CANCELLED' });
    }
    expect(await readBytes('parts')).toEqual(await readBytes('whole'));
  });
});

describe('failures', () => {
  const fail = (message: string) => {
    throw new CartridgesError('ENGINE_FAILURE', message);
  };

  it('are retried alone after their group', async () => {
    const failed = new Set<number>();
    const client = new ScriptedClient((request) => {
      const seed = request.sampling.seed as number;
      if (isQuestion(request) && seed % 3 === 0 && !failed.has(seed)) {
        failed.add(seed);
        fail('busy');
      }
      return undefined;
    });
    const report = await run('a', client);
    expect(failed.size).toBeGreaterThan(0);
    expect(report).toMatchObject({ kept: 22, failed: 0 });
    expect(client.batches.filter((size) => size === 1).length).toBeGreaterThanOrEqual(2 * failed.size);
    await run('b', new ScriptedClient());
    expect(await readBytes('a')).toEqual(await readBytes('b'));
  });

  it('of an answer keep the question for the retry', async () => {
    let failures = 0;
    const client = new ScriptedClient((request) => (!isQuestion(request) && failures++ === 0 ? fail('busy') : undefined));
    expect(await run('a', client)).toMatchObject({ kept: 22, duplicate: 0 });
  });

  it('that stay are counted, recorded and told', async () => {
    const client = new ScriptedClient((request) => (request.messages[0].content.includes('beta') ? fail('too long') : undefined));
    const warnings: ProgressEvent[] = [];
    const onProgress = (event: ProgressEvent) => {
      if (event.kind === 'warning') warnings.push(event);
    };
    const report = await run('a', client, {}, { onProgress });
    expect(report.failed).toBeGreaterThanOrEqual(7);
    expect(report.kept).toBe(22 - report.failed);
    expect(warnings).toHaveLength(report.failed);
    const failures = (await readManifest(join(root, 'a')))?.shards.flatMap((shard) => shard.failures);
    expect(failures).toHaveLength(report.failed);
    expect(failures?.[0]).toMatchObject({ code: 'ENGINE_FAILURE', message: 'too long' });
  });

  it('of everything stop the run', async () => {
    const client = new ScriptedClient(() => fail('the server is gone'));
    const error = await run('a', client, { conversations: 1000 }).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'ENGINE_FAILURE', message: expect.stringContaining('the server is gone') });
    expect(client.requests.length).toBeLessThan(100);
  });

  it('include answers without the log-probs that were asked for', async () => {
    const client = new ScriptedClient((request) => (isQuestion(request) ? undefined : { topLogprobs: undefined }));
    await expect(run('a', client, { conversations: 30 })).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });
});

describe('resume', () => {
  it('refuses a folder with other settings and says which', async () => {
    await run('a', new ScriptedClient());
    const changed = run('a', new ScriptedClient(), { temperatureA: 0.9 }, { teacher: { model: 'other' } });
    await expect(changed).rejects.toMatchObject({
      code: 'SETTINGS_CHANGED',
      message: expect.stringMatching(/settings\.temperatureA is 0\.9 and was 0\.7; teacher\.model is "other" and was "scripted"/),
    });
  });

  it('refuses other chunks', async () => {
    await run('a', new ScriptedClient());
    const changed = run('a', new ScriptedClient(), {}, { chunks: chunks.slice(1) });
    await expect(changed).rejects.toMatchObject({ code: 'SETTINGS_CHANGED', message: expect.stringContaining('chunks.count') });
  });

  it('of a finished dataset asks nothing', async () => {
    const first = await run('a', new ScriptedClient());
    const client = new ScriptedClient();
    expect(await run('a', client)).toMatchObject({ kept: first.kept, resumedAt: 22 });
    expect(client.requests).toEqual([]);
  });

  it('knows as little of what a failed attempt asked as a run that was not interrupted', async () => {
    // The first question of the first shard fails to be answered, asked again it is another one; the second shard asks the first.
    const script = () => {
      let questions = 0;
      let failures = 0;
      return new ScriptedClient((request) => {
        if (isQuestion(request)) return { text: ['What?', 'Why?', 'What?'][questions++] };
        if (request.messages[1].content !== 'What?' || failures++ > 0) return undefined;
        throw new Error('once');
      });
    };
    const settings = { conversations: 2, concurrency: 1, groupsPerShard: 1 };
    const one = { chunks: chunks.slice(0, 1) };
    expect(await run('whole', script(), settings, one)).toMatchObject({ kept: 2, duplicate: 0 });
    const controller = new AbortController();
    const onProgress = (event: ProgressEvent) => event.kind === 'progress' && controller.abort(ENOUGH);
    const client = script();
    await run('parts', client, settings, { ...one, signal: controller.signal, onProgress });
    await run('parts', client, settings, one);
    expect(await readBytes('parts')).toEqual(await readBytes('whole'));
  });

  it('goes on behind the shards that were finished before the disk was full', async () => {
    await run('whole', new ScriptedClient());
    const original = (await vi.importActual<typeof files>('../core/files.js')).writeFileAtomic;
    vi.mocked(files.writeFileAtomic).mockImplementation((path, data) =>
      path.endsWith('shard-00001.parquet')
        ? Promise.reject(new CartridgesError('DISK_FULL', 'no space left'))
        : original(path, data),
    );
    await expect(run('parts', new ScriptedClient())).rejects.toMatchObject({ code: 'DISK_FULL' });
    vi.mocked(files.writeFileAtomic).mockImplementation(original);
    expect(await load('parts')).toHaveLength(8);
    expect(await run('parts', new ScriptedClient())).toMatchObject({ resumedAt: 8 });
    expect(await readBytes('parts')).toEqual(await readBytes('whole'));
  });
});

describe('an abort because there is enough', () => {
  it('keeps the groups that are finished, and the same call goes on behind them', async () => {
    const controller = new AbortController();
    const onProgress = (event: ProgressEvent) => {
      if (event.kind === 'progress' && event.done === 12) controller.abort(ENOUGH);
    };
    const report = await run('parts', new ScriptedClient(), {}, { signal: controller.signal, onProgress });
    expect(report).toMatchObject({ attempted: 12, kept: 12, shards: 2 });
    expect(await readManifest(join(root, 'parts'))).toMatchObject({ complete: false, shards: [{ groups: 2 }, { groups: 1 }] });
    await run('whole', new ScriptedClient());
    expect(await load('parts')).toEqual((await load('whole')).slice(0, 12));
    expect(await run('parts', new ScriptedClient())).toMatchObject({ resumedAt: 12, attempted: 22 });
    expect(await load('parts')).toEqual(await load('whole'));
    expect(await readManifest(join(root, 'parts'))).toMatchObject({ complete: true });
  });

  it('is complete when nothing was left to do', async () => {
    const controller = new AbortController();
    const onProgress = (event: ProgressEvent) => {
      if (event.kind === 'progress' && event.done === 22) controller.abort(ENOUGH);
    };
    await run('a', new ScriptedClient(), {}, { signal: controller.signal, onProgress });
    expect(await readManifest(join(root, 'a'))).toMatchObject({ complete: true });
  });
});

describe('what is refused at once', () => {
  it.each([
    ['no chunks', {}, { chunks: [] }, 'CORPUS_EMPTY'],
    ['more log-probs than the client gives', { topLogprobs: 21 }, {}, 'INVALID_OPTION'],
    ['a setting out of range', { concurrency: 0 }, {}, 'INVALID_OPTION'],
  ] as const)('%s', async (_what, settings, rest, code) => {
    const client = new ScriptedClient();
    await expect(run('a', client, settings, rest as Partial<SynthesizeOptions>)).rejects.toMatchObject({ code });
    expect(client.requests).toEqual([]);
    expect(await readdir(root)).toEqual([]);
  });
});
