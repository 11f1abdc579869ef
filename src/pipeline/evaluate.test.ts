import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import type { Cartridge } from '../cartridge/cartridge.js';
import { packageRoot } from '../core/package.js';
import type { ProgressEvent } from '../core/progress.js';
import type { ConditionName } from '../evaluation/conditions.js';
import type { Question } from '../evaluation/questions.js';
import { ConditionAnswerer } from './condition-answerer.js';
import type { TokenizedCorpus } from './corpus-source.js';
import { loadCorpus } from './corpus-source.js';
import { type EvaluateOptions, evaluateCartridge } from './evaluate.js';
import { ModelSession } from './model-session.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-evaluate-'));
let session: ModelSession;
let corpus: TokenizedCorpus;

/** The pocket model in a folder of its own, which has no `prompts.json`. */
beforeAll(async () => {
  symlinkSync(join(packageRoot, 'models', 'pocket', 'pocket.gguf'), join(folder, 'lone.gguf'));
  session = await ModelSession.open({ model: join(folder, 'lone.gguf'), device: 'cpu', threads: 1 });
  corpus = await loadCorpus(join(packageRoot, 'examples', 'corpora', 'harbour', 'corpus.txt'), session.tokenizer);
});
afterEach(() => vi.restoreAllMocks());
afterAll(async () => {
  await session.dispose();
  rmSync(folder, { recursive: true });
});

const question = (id: string, answer: string | null): Question => ({ id, question: 'Who rows?', answer, accept: [], extra: {} });

const evaluate = (tokenCount: number, changes: Partial<EvaluateOptions> = {}) =>
  evaluateCartridge({
    session,
    cartridge: zeroCartridge(tokenCount),
    cartridgePath: 'zeros.safetensors',
    corpus,
    sets: { questions: [question('q', 'Ada')], unanswerable: [question('u', null)] },
    maxTokens: 4,
    ...changes,
  });

test('without prompts.json the built-in list says what a refusal is', async () => {
  const reply = { text: 'The letter does not specify it.', promptTokens: 1 };
  vi.spyOn(ConditionAnswerer.prototype, 'answer').mockResolvedValue(reply);
  const { report } = await evaluate(32);
  expect(report.abstention).toEqual({ none: 1, full: 1, truncated: 1, cartridge: 1 });
});

test('a cartridge that is no larger than the framing stands beside the framing without text', async () => {
  const { systemFrameTokens } = session.framing;
  const { report } = await evaluate(systemFrameTokens);
  const { truncated, cartridge } = report.conditions;
  expect(truncated).toMatchObject({ withoutText: true, kvBytes: cartridge.kvBytes, accuracy: expect.any(Number) });
  expect((await evaluate(systemFrameTokens + 1)).report.conditions.truncated).not.toHaveProperty('withoutText');
});

test.each([
  { maxTokens: 1_500, told: [] },
  { maxTokens: 60_000, told: [expect.stringMatching(/^answers end after 1\d{3} tokens, /)] },
])('a text that fits beside the questions is not cut for answers of $maxTokens tokens', async ({ maxTokens, told }) => {
  const warnings: string[] = [];
  const onProgress = (event: ProgressEvent) => {
    if (event.kind === 'warning') warnings.push(event.message);
  };
  const answer = vi.spyOn(ConditionAnswerer.prototype, 'answer').mockResolvedValue({ text: '', promptTokens: 1 });
  const { report } = await evaluate(32, { maxTokens, onProgress });
  expect(report.conditions.full).not.toHaveProperty('cut');
  expect(report.compression).toBeCloseTo(session.framing.encodeSystemPrefix(corpus.text).length / 32);
  expect(answer).toHaveBeenCalled();
  expect(warnings).toEqual(told);
});

test('long questions have their room, and one that fits no context fails alone', async () => {
  const long = (id: string, words: number) => ({ ...question(id, 'Ada'), question: 'Who rows? '.repeat(words) });
  const text = corpus.text.repeat(8);
  const sets = { questions: [long('long', 150), long('endless', 700), question('short', 'Ada')] };
  const { report, results } = await evaluate(32, { sets, corpus: { ...corpus, text } });
  const failed = (condition: ConditionName) =>
    results[condition].questions.rows.flatMap(({ question: { id }, error }) => (error ? [id] : []));
  expect(failed('full')).toEqual(['endless']);
  expect(report.conditions.full).toMatchObject({ cut: true, failed: 1, timeToFirstTokenMs: expect.any(Number) });
});

function zeroCartridge(tokenCount: number): Cartridge {
  const { layers, kvHeads, headDimension } = session.fingerprint;
  const zeros = () => Array.from({ length: layers }, () => new Float32Array(tokenCount * kvHeads * headDimension));
  return {
    model: session.fingerprint,
    framing: { name: session.framing.name, hash: session.framing.hash },
    tokenCount,
    frozenCount: 1,
    keys: zeros(),
    values: zeros(),
    receipt: { createdBy: 'a test', createdAt: '2025-01-01T00:00:00.000Z', initializer: 'random' },
  };
}
