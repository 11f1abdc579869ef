/**
 * Answering behind a cartridge beside answering behind the full text, for 1, 8 and 32 users at once who ask about the same text.
 * `npm run bench -- decode [--json] [--threads N] [--repetitions N] [--only pocket|smollm2]`
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '../src/core/package.js';
import type { CartridgeHandle } from '../src/inference/cartridge-handle.js';
import type { InferenceEngine } from '../src/inference/inference-engine.js';
import { loadCorpus } from '../src/pipeline/corpus-source.js';
import { ModelSession } from '../src/pipeline/model-session.js';
import { defaultTokenCount } from '../src/pipeline/plan.js';
import { BENCH_OPTIONS } from './support/bench-options.js';
import { randomCartridge } from './support/cartridge-of.js';
import { describeMachine } from './support/machine.js';
import { findRealModel, REAL_MODEL_ABSENT } from './support/models.js';
import { type BenchCase, comparison, printReport, progress } from './support/report.js';
import { median } from './support/statistics.js';
import { tuningNote } from './support/tuning-note.js';

const USERS = [1, 8, 32];
const NEW_TOKENS = 32;
const QUESTION = 'What does the text say about it, and when did it happen?';
const RIVAL = 'full text';

const { values: options } = parseArgs({ options: BENCH_OPTIONS });
const machine = describeMachine();
const cases: BenchCase[] = [];
const notes = [
  `medians of ${options.repetitions} runs, ${NEW_TOKENS} new tokens a user, the context shared by all users of a run`,
];
if (options.only !== 'smollm2') cases.push(...(await measureModel('pocket', 'pocket', join('examples', 'corpora', 'harbour'))));
const realModel = options.only === 'pocket' ? undefined : findRealModel();
if (realModel) cases.push(...(await measureModel('SmolLM2-135M', realModel, join('examples', 'corpora', 'lighthouse'))));
else if (options.only !== 'pocket') notes.push(REAL_MODEL_ABSENT);
printReport({ name: 'decode', machine, cases, notes }, options.json);
process.exit(0);

interface Context {
  prefix: Int32Array;
  cartridge?: CartridgeHandle;
}

async function measureModel(name: string, model: string, source: string): Promise<BenchCase[]> {
  const session = await ModelSession.open({ model, threads: Number(options.threads) });
  notes.push(`${name}: ${await tuningNote(session.path)}`);
  const corpus = await loadCorpus(join(packageRoot, source), session.tokenizer);
  const prefix = session.framing.encodeSystemPrefix(corpus.text);
  const tokenCount = defaultTokenCount(corpus.tokens);
  const turn = session.framing.encodeTurns([{ role: 'user', content: QUESTION }], { addGenerationPrompt: true, bos: false });
  const userTokens = turn.length + NEW_TOKENS;
  const engine = await session.createEngine({
    contextTokens: prefix.length + tokenCount + Math.max(...USERS) * userTokens,
    maxRequests: Math.max(...USERS),
  });
  const full: Context = { prefix };
  const ours: Context = {
    prefix: new Int32Array(0),
    cartridge: await engine.loadCartridge(randomCartridge(session, tokenCount)),
  };
  const found: BenchCase[] = [];
  for (const users of USERS) {
    progress(`${name}, ${users} users`);
    const [oursRun, fullRun] = [await measure(engine, ours, turn, users), await measure(engine, full, turn, users)];
    const title = `${name}, ${users} user${users === 1 ? '' : 's'}`;
    found.push(
      comparison({
        case: `${title}: decode`,
        unit: 'tokens/s',
        ours: oursRun.tokensPerSecond,
        rival: fullRun.tokensPerSecond,
        rivalName: RIVAL,
      }),
      comparison(
        { case: `${title}: first token`, unit: 'ms', ours: oursRun.firstTokenMs, rival: fullRun.firstTokenMs, rivalName: RIVAL },
        'lower',
      ),
      comparison(
        {
          case: `${title}: KV cache a user, by shape`,
          unit: 'bytes',
          ours: (tokenCount / users + userTokens) * engine.kvBytesPerToken,
          rival: (prefix.length / users + userTokens) * engine.kvBytesPerToken,
          rivalName: RIVAL,
        },
        'lower',
      ),
    );
  }
  const bytes = { ours: tokenCount * engine.kvBytesPerToken, rival: prefix.length * engine.kvBytesPerToken };
  found.push(comparison({ case: `${name}: KV cache of the context`, unit: 'bytes', ...bytes, rivalName: RIVAL }, 'lower'));
  await engine.dispose();
  await session.dispose();
  return found;
}

/** All users of a run start together on an empty cache; decode is counted from the first new token of the last of them. */
async function measure(engine: InferenceEngine, { prefix, cartridge }: Context, turn: Int32Array, users: number) {
  const rates: number[] = [];
  const firstTokens: number[] = [];
  for (let repetition = 0; repetition <= Number(options.repetitions); repetition++) {
    const prompt = Int32Array.from([...prefix, ...turn]);
    // An idle engine forgets shared prefixes: every run reads the text itself.
    await engine.whenIdle();
    const started = performance.now();
    const completions = await Promise.all(
      Array.from({ length: users }, () =>
        engine.complete({
          prompt,
          maxTokens: NEW_TOKENS,
          sampling: { temperature: 0 },
          ignoreEndOfGeneration: true,
          sharedPrefixTokens: prefix.length,
          ...(cartridge && { cartridges: [cartridge] }),
        }),
      ),
    );
    const seconds = (performance.now() - started) / 1000;
    // The first run fills caches of the processor and is left out.
    if (repetition === 0) continue;
    const slowest = Math.max(...completions.map(({ timings }) => timings.timeToFirstTokenMs));
    firstTokens.push(slowest);
    rates.push((users * (NEW_TOKENS - 1)) / (seconds - slowest / 1000));
  }
  return { tokensPerSecond: median(rates), firstTokenMs: median(firstTokens) };
}
