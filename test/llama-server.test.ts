import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readCartridge, writeCartridge } from '../src/cartridge/cartridge-file.js';
import { initializeRows } from '../src/cartridge/initializers/initialize.js';
import { runCommandLine } from '../src/cli/main.js';
import { packageRoot } from '../src/core/package.js';
import { Random } from '../src/core/random.js';
import type { CartridgeHandle } from '../src/inference/cartridge-handle.js';
import type { InferenceEngine } from '../src/inference/inference-engine.js';
import { ModelSession } from '../src/pipeline/model-session.js';
import { randomCartridge } from './support/cartridges.js';
import { HAS_LLAMA_SERVER, LLAMA_SERVER_NOTE, LlamaServer } from './support/llama-server.js';

/** An unmodified llama-server answers from a cartridge's rows as this engine does. */

const ROWS = 64;
const ANSWER_TOKENS = 24;
/** Best log-probs that lie closer than this may change places by rounding: two builds round products differently. */
const CLOSE = 1;
const QUESTIONS = [
  'What colour is the flag of the Pouclal?',
  'How many sailors work on the Rister?',
  'Who is the captain of the Brojel?',
  'What is the text about?',
  'Say hello.',
];

const folder = mkdtempSync(join(tmpdir(), 'cartridges-llama-server-'));
process.env['CARTRIDGES_CACHE'] = join(folder, 'cache');

interface Exported {
  server: string[];
  tokens: number;
  restore: { path: string; body: unknown };
  completion: { path: string; body: { prompt: number[] } };
}

interface Completion {
  content: string;
  tokens: number[];
  timings: { cache_n: number; prompt_n: number };
}

describe.skipIf(!HAS_LLAMA_SERVER)(`llama-server${LLAMA_SERVER_NOTE}`, () => {
  let session: ModelSession;

  beforeAll(async () => {
    session = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
    const paragraphs = readFileSync(join(packageRoot, 'examples', 'corpora', 'harbour', 'corpus.txt'), 'utf8').split('\n\n');
    await writeTextCartridge('first', paragraphs.slice(0, 4).join('\n\n'));
    await writeTextCartridge('second', paragraphs.slice(4, 8).join('\n\n'));
  });

  afterAll(async () => {
    await session.dispose();
    rmSync(folder, { recursive: true });
  });

  test.each([
    { kvType: 'f16', flashAttention: true },
    { kvType: 'f16', flashAttention: false },
    { kvType: 'f32', flashAttention: false },
    { kvType: 'bf16', flashAttention: true },
  ] as const)('restores a slot and answers as this engine ($kvType, flash attention $flashAttention)', async (cache) => {
    const flags = ['--kv-type', cache.kvType, ...(cache.flashAttention ? [] : ['--no-flash-attention'])];
    const exported = await Promise.all(QUESTIONS.map((question) => exportSlot('first', question, flags)));
    const [{ server: serverFlags, restore }] = exported as [Exported];
    const engine = await session.createEngine({ contextTokens: 512, maxRequests: 1, cacheType: cache.kvType, ...cache });
    const handle = await engine.loadCartridge(await readCartridge(pathOf('first')));
    await withServer(serverFlags, async (server) => {
      const { status, answer } = await server.post<{ n_restored: number }>(restore.path, restore.body);
      expect([status, answer.n_restored]).toEqual([200, ROWS]);
      const parted: number[] = [];
      for (const { completion } of exported) {
        const found = await complete(server, completion);
        expect(found.timings.cache_n).toBeGreaterThanOrEqual(ROWS);
        const place = await placeOfParting(engine, handle, completion.body.prompt.slice(ROWS), found.tokens);
        if (place !== undefined) parted.push(place);
      }
      console.info(`${flags.join(' ')}: ${parted.length} of ${QUESTIONS.length} answers part, at tokens [${parted}]`);
      expect(parted.length).toBeLessThan(QUESTIONS.length / 2);
    });
    await engine.dispose();
  });

  test('does not take one cartridge for another in the same slot', async () => {
    const [first, second] = await Promise.all(['first', 'second'].map((name) => exportSlot(name, QUESTIONS[0]!, [])));
    await withServer(first!.server, async (server) => {
      const answers: string[] = [];
      for (const { restore, completion } of [first!, second!, first!]) {
        expect((await server.post(restore.path, restore.body)).status).toBe(200);
        const { content, timings } = await complete(server, completion);
        expect(timings).toMatchObject({ cache_n: ROWS, prompt_n: completion.body.prompt.length - ROWS });
        answers.push(content);
      }
      expect(answers[2]).toBe(answers[0]);
      expect(answers[1]).not.toBe(answers[0]);
      // With the second one's rows in the slot, a prompt of the first finds none of them; its own may be in the server's memory.
      await server.post(second!.restore.path, second!.restore.body);
      const { content, timings } = await complete(server, first!.completion);
      expect(timings.cache_n === 0 || content === answers[0]).toBe(true);
    });
  });

  test('refuses a file that is laid out for another cache', async () => {
    const { server: serverFlags, restore } = await exportSlot('first', QUESTIONS[0]!, ['--kv-type', 'f32']);
    const f16 = serverFlags.map((flag) => (flag === 'f32' ? 'f16' : flag));
    await withServer(f16, async (server) => {
      expect((await server.post(restore.path, restore.body)).status).toBe(400);
    });
  });

  const pathOf = (name: string) => join(folder, `${name}.safetensors`);

  async function writeTextCartridge(name: string, corpusText: string): Promise<void> {
    const { framing, tokenizer, fingerprint } = session;
    const model = await session.student('f32');
    const rows = await initializeRows({
      ...{ name: 'first-tokens', model, framing, tokenizer, corpusText },
      ...{ tokenCount: ROWS, random: new Random(1) },
    });
    const stamp = { model: fingerprint, framing: { name: framing.name, hash: framing.hash } };
    await writeCartridge(pathOf(name), { ...randomCartridge(1), ...rows, ...stamp, tokenCount: ROWS }, { dtype: 'f32' });
  }

  async function exportSlot(name: string, question: string, flags: readonly string[]): Promise<Exported> {
    const output = ['--to', 'llama-state', '-o', join(folder, `${name}.bin`), '--question', question, '--json'];
    const text = { stdout: '', stderr: '' };
    const status = await runCommandLine(['export', pathOf(name), ...output, '--model', 'pocket', '--threads', '1', ...flags], {
      stdout: { write: (piece) => (text.stdout += piece) },
      stderr: { write: (piece) => (text.stderr += piece) },
    });
    expect([status, text.stderr]).toEqual([0, expect.not.stringContaining('error:')]);
    return JSON.parse(text.stdout);
  }

  async function withServer(flags: readonly string[], body: (server: LlamaServer) => Promise<void>): Promise<void> {
    const server = await LlamaServer.start([...flags, '-c', '1024']);
    try {
      await body(server);
    } finally {
      await server.stop();
    }
  }

  async function complete(server: LlamaServer, { path, body }: Exported['completion']): Promise<Completion> {
    const { status, answer } = await server.post<Completion>(path, { ...body, n_predict: ANSWER_TOKENS, return_tokens: true });
    expect(status).toBe(200);
    return answer;
  }

  /** Undefined where both answers are equal; else the first token that differs, where this engine's two best must be close. */
  async function placeOfParting(
    engine: InferenceEngine,
    handle: CartridgeHandle,
    turns: readonly number[],
    found: readonly number[],
  ): Promise<number | undefined> {
    const ours = await engine.complete({
      prompt: Int32Array.from(turns),
      maxTokens: ANSWER_TOKENS,
      sampling: { temperature: 0 },
      topLogprobs: 2,
      cartridges: [handle],
    });
    // Both may or may not count the token that ends the answer.
    const place = found.findIndex((token, index) => token !== ours.tokens[index]);
    if (place < 0) {
      expect(ours.tokens.length - found.length).toBeLessThanOrEqual(1);
      return undefined;
    }
    const [best, next] = ours.topLogprobs[place]!.logprobs;
    expect(best! - next!).toBeLessThan(CLOSE);
    return place;
  }
});
