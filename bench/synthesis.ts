/**
 * Answers of self-study with the top 20 log-probs of every token, beside the same answers without, and beside those of llama.cpp's
 * own `llama-server` without: 1, 8 and 32 conversations at once.
 * `npm run bench -- synthesis [--json] [--threads N] [--repetitions N] [--only pocket|smollm2]`
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Message } from '../src/core/message.js';
import { packageRoot } from '../src/core/package.js';
import { chunkDocuments } from '../src/corpus/chunker.js';
import { LocalChatClient } from '../src/inference/local-chat-client.js';
import { resolveThreads } from '../src/native/devices.js';
import { loadCorpus } from '../src/pipeline/corpus-source.js';
import { ModelSession } from '../src/pipeline/model-session.js';
import { LLAMA_SERVER, startLlamaServer } from './peers/start-llama-server.js';
import { BENCH_OPTIONS } from './support/bench-options.js';
import { askChat } from './support/http-users.js';
import { describeMachine } from './support/machine.js';
import { findRealModel, REAL_MODEL_ABSENT } from './support/models.js';
import { type BenchCase, comparison, printReport, progress } from './support/report.js';
import { median } from './support/statistics.js';
import { tuningNote } from './support/tuning-note.js';

const CONCURRENCY = [1, 8, 32];
const ANSWER_TOKENS = 64;
/** Room for what the template and the question add to a chunk. */
const FRAMING_TOKENS = 96;
const POCKET = join(packageRoot, 'models', 'pocket', 'pocket.gguf');

const { values: options } = parseArgs({ options: BENCH_OPTIONS });
const threads = resolveThreads(Number(options.threads));
const machine = describeMachine();
const cases: BenchCase[] = [];
const notes = [
  `medians of ${options.repetitions} groups in turns; answered tokens a second of role B, prompts included`,
  `${threads} threads each`,
];
if (options.only !== 'smollm2') cases.push(...(await measureModel('pocket', POCKET, join('examples', 'corpora', 'harbour'), 56)));
const realModel = options.only === 'pocket' ? undefined : findRealModel();
if (realModel) cases.push(...(await measureModel('SmolLM2-135M', realModel, join('examples', 'corpora', 'lighthouse'), 256)));
else if (options.only !== 'pocket') notes.push(REAL_MODEL_ABSENT);
printReport({ name: 'synthesis', machine, cases, notes }, options.json);
process.exit(0);

async function measureModel(name: string, modelPath: string, source: string, chunkTokens: number): Promise<BenchCase[]> {
  const session = await ModelSession.open({ model: modelPath, threads });
  notes.push(`${name}: ${await tuningNote(modelPath)}`);
  const corpus = await loadCorpus(join(packageRoot, source), session.tokenizer);
  const chunks = chunkDocuments(corpus.documents, session.tokenizer, { minTokens: 16, maxTokens: chunkTokens });
  const found: BenchCase[] = [];
  for (const conversations of CONCURRENCY) {
    progress(`${name}, ${conversations} conversations`);
    const cells = conversations * (chunkTokens + ANSWER_TOKENS + FRAMING_TOKENS);
    const engine = await session.createEngine({ contextTokens: cells, maxRequests: conversations });
    const client = new LocalChatClient({ engine, framing: session.framing });
    const rival = await startLlamaServer({ modelPath, threads, cells, slots: conversations });
    const prompts = Array.from({ length: conversations }, (_, index) => promptAbout(chunks[index % chunks.length]!.text));
    const ours = async (topLogprobs: number) => {
      // An idle engine forgets the prompts of the group before, which are the same.
      await engine.whenIdle();
      return answeredTokensPerSecond(prompts, (messages) => answerOurs(client, messages, topLogprobs));
    };
    const sides = {
      withLogprobs: () => ours(20),
      without: () => ours(0),
      rival: () => answeredTokensPerSecond(prompts, (messages) => answerRival(rival.url, messages)),
    };
    const speeds = await measureInTurns(sides);
    const title = `${name}, ${conversations} conversation${conversations === 1 ? '' : 's'} at once`;
    const unit = 'answered tokens/s';
    const withLogprobs = { case: title, unit, ours: speeds.withLogprobs };
    found.push(
      comparison({ ...withLogprobs, rival: speeds.without, rivalName: 'without log-probs' }),
      comparison({ ...withLogprobs, rival: speeds.rival, rivalName: `${LLAMA_SERVER} without log-probs` }),
    );
    await rival.stop();
    await engine.dispose();
  }
  await session.dispose();
  return found;
}

function promptAbout(text: string): Message[] {
  return [
    { role: 'system', content: text },
    { role: 'user', content: 'What does the text say? Name everything in it.' },
  ];
}

/** Of all conversations together, from their start to the end of the last. `answer` returns how many tokens it made. */
async function answeredTokensPerSecond(
  prompts: readonly Message[][],
  answer: (messages: Message[]) => Promise<number>,
): Promise<number> {
  const started = performance.now();
  const tokens = await Promise.all(prompts.map(answer));
  return (tokens.reduce((sum, count) => sum + count, 0) * 1000) / (performance.now() - started);
}

async function answerOurs(client: LocalChatClient, messages: Message[], topLogprobs: number): Promise<number> {
  const { usage } = await client.chat({ messages, maxTokens: ANSWER_TOKENS, sampling: { temperature: 0 }, topLogprobs });
  return usage.completionTokens;
}

/** Without its prompt cache: a conversation of self-study is never repeated, those of a benchmark are. */
async function answerRival(url: string, messages: Message[]): Promise<number> {
  const response = await askChat(url, { messages, max_tokens: ANSWER_TOKENS, temperature: 0, cache_prompt: false });
  const { usage } = (await response.json()) as { usage: { completion_tokens: number } };
  return usage.completion_tokens;
}

/**
 * The median of each side; the first run of each warms it up and is left out. Another side begins each time: who follows another
 * program finds cold processors.
 */
async function measureInTurns<Side extends string>(sides: Record<Side, () => Promise<number>>): Promise<Record<Side, number>> {
  const names = Object.keys(sides) as Side[];
  const runs = Object.fromEntries(names.map((side) => [side, [] as number[]])) as Record<Side, number[]>;
  for (let repetition = 0; repetition <= Number(options.repetitions); repetition++) {
    for (const turn of names.keys()) {
      const side = names[(turn + repetition) % names.length]!;
      const speed = await sides[side]();
      if (repetition > 0) runs[side].push(speed);
    }
  }
  return Object.fromEntries(names.map((side) => [side, median(runs[side])])) as Record<Side, number>;
}
