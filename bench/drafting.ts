/**
 * Greedy answers about a piece of text with drafts from their own prompt, beside the same answers without: 1 user and 8 at once.
 * `npm run bench -- drafting [--json] [--threads N] [--repetitions N] [--only pocket|smollm2]`
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '../src/core/package.js';
import { chunkDocuments } from '../src/corpus/chunker.js';
import type { DraftSource } from '../src/inference/drafting/draft-source.js';
import { TextDraft } from '../src/inference/drafting/text-draft.js';
import type { InferenceEngine } from '../src/inference/inference-engine.js';
import { loadCorpus } from '../src/pipeline/corpus-source.js';
import { ModelSession } from '../src/pipeline/model-session.js';
import { BENCH_OPTIONS } from './support/bench-options.js';
import { describeMachine } from './support/machine.js';
import { machineLoad, shareOfProcessors } from './support/machine-load.js';
import { findRealModel, REAL_MODEL_ABSENT } from './support/models.js';
import { type BenchCase, comparison, printReport, progress } from './support/report.js';
import { median, significant } from './support/statistics.js';

const USERS = [1, 8];
const ANSWERS = 8;
const ANSWER_TOKENS = 64;
const QUESTIONS = [
  'What does the text say? Quote the sentence that matters most.',
  'When did it happen, and who was there?',
  'Repeat the first two sentences of the text word for word.',
  'What is the text about?',
];
const DRAFT = new TextDraft();

const { values: options } = parseArgs({ options: BENCH_OPTIONS });

/** What was answered, and how fast. */
class Tally {
  readonly answers: string[] = [];
  #tokens = 0;
  #milliseconds = 0;

  get tokensPerSecond(): number {
    return (this.#tokens * 1000) / this.#milliseconds;
  }

  /** Answers a group; its decode counts from the first token of the last of them. */
  async answer(engine: InferenceEngine, prompts: readonly Int32Array[], draft?: DraftSource): Promise<void> {
    const sampling = { temperature: 0 };
    const started = performance.now();
    const completions = await Promise.all(
      prompts.map((prompt) => engine.complete({ prompt, maxTokens: ANSWER_TOKENS, sampling, ...(draft && { draft }) })),
    );
    const firstToken = Math.max(...completions.map(({ timings }) => timings.timeToFirstTokenMs));
    this.#milliseconds += performance.now() - started - firstToken;
    for (const { tokens } of completions) {
      this.#tokens += tokens.length - 1;
      this.answers.push(tokens.join(' '));
    }
  }
}

const machine = describeMachine();
const cases: BenchCase[] = [];
const notes = [
  `medians of ${options.repetitions} rounds of ${ANSWERS} answers, with and without drafts in turns; prompts are not counted`,
];
if (options.only !== 'smollm2')
  cases.push(...(await measureModel('pocket', 'pocket', join('examples', 'corpora', 'harbour'), 120)));
const realModel = options.only === 'pocket' ? undefined : findRealModel();
if (realModel) cases.push(...(await measureModel('SmolLM2-135M', realModel, join('examples', 'corpora', 'lighthouse'), 192)));
else if (options.only !== 'pocket') notes.push(REAL_MODEL_ABSENT);
printReport({ name: 'drafting', machine, cases, notes }, options.json);
process.exit(0);

/** Tokens a second of all answers with drafts and without, and how many answers are the same token by token. */
interface Round {
  drafted: number;
  plain: number;
  same: number;
}

async function measureModel(name: string, model: string, source: string, chunkTokens: number): Promise<BenchCase[]> {
  const session = await ModelSession.open({ model, threads: Number(options.threads) });
  const corpus = await loadCorpus(join(packageRoot, source), session.tokenizer);
  const chunks = chunkDocuments(corpus.documents, session.tokenizer, { minTokens: 16, maxTokens: chunkTokens });
  const prompts = Array.from({ length: ANSWERS }, (_, index) =>
    session.framing.encodeChat(
      [
        { role: 'system', content: chunks[(3 * index) % chunks.length]!.text },
        { role: 'user', content: QUESTIONS[index % QUESTIONS.length]! },
      ],
      { addGenerationPrompt: true },
    ),
  );
  const found: BenchCase[] = [];
  for (const users of USERS) {
    const contextTokens = prompts.reduce((sum, { length }) => sum + length + ANSWER_TOKENS, 0);
    const engine = await session.createEngine({ contextTokens, maxRequests: users, retainTurns: true });
    found.push(await measureUsers(`${name}, ${users} user${users === 1 ? '' : 's'}`, engine, prompts, users));
    await engine.dispose();
  }
  await session.dispose();
  return found;
}

async function measureUsers(
  title: string,
  engine: InferenceEngine,
  prompts: readonly Int32Array[],
  users: number,
): Promise<BenchCase> {
  progress(title);
  // The first round reads the prompts, which stay in the cache.
  await answerAll(engine, prompts, users);
  const before = engine.statistics;
  const [busyBefore, cpuBefore, started] = [machineLoad.busyMilliseconds(), process.cpuUsage(), performance.now()];
  const rounds: Round[] = [];
  for (let repetition = 0; repetition < Number(options.repetitions); repetition++) {
    rounds.push(await answerAll(engine, prompts, users));
  }
  const own = process.cpuUsage(cpuBefore);
  const others = machineLoad.busyMilliseconds() - busyBefore - (own.user + own.system) / 1000;
  const share = shareOfProcessors(others, performance.now() - started);
  const { draftedTokens, acceptedTokens } = engine.statistics;
  const [drafted, accepted] = [draftedTokens - before.draftedTokens, acceptedTokens - before.acceptedTokens];
  const same = rounds.reduce((sum, round) => sum + round.same, 0);
  notes.push(
    `${title}: ${accepted} of ${drafted} drafted tokens came true, ${same} of ${rounds.length * ANSWERS} answers are ` +
      `the same token by token, other programs took ${significant(100 * share)} % of the processors`,
  );
  return comparison({
    case: `${title}: decode`,
    unit: 'tokens/s',
    ours: median(rounds.map(({ drafted }) => drafted)),
    rival: median(rounds.map(({ plain }) => plain)),
    rivalName: 'without drafts',
  });
}

/** All answers, `users` at once, each group with drafts and without behind each other. */
async function answerAll(engine: InferenceEngine, prompts: readonly Int32Array[], users: number): Promise<Round> {
  const [drafted, plain] = [new Tally(), new Tally()];
  for (let first = 0; first < prompts.length; first += users) {
    const group = prompts.slice(first, first + users);
    await drafted.answer(engine, group, DRAFT);
    await plain.answer(engine, group);
  }
  const same = drafted.answers.filter((answer, index) => answer === plain.answers[index]).length;
  return { drafted: drafted.tokensPerSecond, plain: plain.tokensPerSecond, same };
}
