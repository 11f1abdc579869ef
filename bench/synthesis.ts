/**
 * Answers of self-study with the top 20 log-probs of every token, beside the same answers without: 1, 8 and 32 conversations at
 * once. `npm run bench -- synthesis [--json] [--threads N] [--repetitions N] [--only pocket|smollm2]`
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '../src/core/package.js';
import { chunkDocuments } from '../src/corpus/chunker.js';
import { LocalChatClient } from '../src/inference/local-chat-client.js';
import { loadCorpus } from '../src/pipeline/corpus-source.js';
import { ModelSession } from '../src/pipeline/model-session.js';
import { BENCH_OPTIONS } from './support/bench-options.js';
import { describeMachine } from './support/machine.js';
import { findRealModel, REAL_MODEL_ABSENT } from './support/models.js';
import { type BenchCase, comparison, printReport, progress } from './support/report.js';
import { median } from './support/statistics.js';

const CONCURRENCY = [1, 8, 32];
const ANSWER_TOKENS = 64;

const { values: options } = parseArgs({ options: BENCH_OPTIONS });
const machine = describeMachine();
const cases: BenchCase[] = [];
const notes = [`medians of ${options.repetitions} groups in turns; answered tokens a second of role B, prompts included`];
if (options.only !== 'smollm2')
  cases.push(...(await measureModel('pocket', 'pocket', join('examples', 'corpora', 'harbour'), 56)));
const realModel = options.only === 'pocket' ? undefined : findRealModel();
if (realModel) cases.push(...(await measureModel('SmolLM2-135M', realModel, join('examples', 'corpora', 'lighthouse'), 256)));
else if (options.only !== 'pocket') notes.push(REAL_MODEL_ABSENT);
printReport({ name: 'synthesis', machine, cases, notes }, options.json);
process.exit(0);

async function measureModel(name: string, model: string, source: string, chunkTokens: number): Promise<BenchCase[]> {
  const session = await ModelSession.open({ model, threads: Number(options.threads) });
  const corpus = await loadCorpus(join(packageRoot, source), session.tokenizer);
  const chunks = chunkDocuments(corpus.documents, session.tokenizer, { minTokens: 16, maxTokens: chunkTokens });
  const found: BenchCase[] = [];
  for (const conversations of CONCURRENCY) {
    progress(`${name}, ${conversations} conversations`);
    const engine = await session.createEngine({
      contextTokens: conversations * (chunkTokens + ANSWER_TOKENS + 96),
      maxRequests: conversations,
    });
    const client = new LocalChatClient({ engine, framing: session.framing });
    const group = async (topLogprobs: number) => {
      const started = performance.now();
      const answers = await Promise.all(
        Array.from({ length: conversations }, (_, index) =>
          client.chat({
            messages: [
              { role: 'system', content: chunks[index % chunks.length]!.text },
              { role: 'user', content: 'What does the text say? Name everything in it.' },
            ],
            maxTokens: ANSWER_TOKENS,
            sampling: { temperature: 0 },
            topLogprobs,
          }),
        ),
      );
      const tokens = answers.reduce((sum, { usage }) => sum + usage.completionTokens, 0);
      return (tokens / (performance.now() - started)) * 1000;
    };
    const [withLogprobs, without]: [number[], number[]] = [[], []];
    await group(20);
    for (let repetition = 0; repetition < Number(options.repetitions); repetition++) {
      withLogprobs.push(await group(20));
      without.push(await group(0));
    }
    found.push(
      comparison({
        case: `${name}, ${conversations} conversation${conversations === 1 ? '' : 's'} at once`,
        unit: 'answered tokens/s',
        ours: median(withLogprobs),
        rival: median(without),
        rivalName: 'without log-probs',
      }),
    );
    await engine.dispose();
  }
  await session.dispose();
  return found;
}
