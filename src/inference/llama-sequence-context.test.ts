import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { PACKAGED_GOLDEN_FOLDER, readGolden } from '../../test/support/golden.js';
import type { RandomState } from '../core/random.js';
import { allowedProcessors, parseProcessorList } from '../native/processors.js';
import { decodeThread } from './decoding/decode-thread.js';
import { LanguageModel } from './language-model.js';
import { type LlamaContextSettings, LlamaSequenceContext } from './llama-sequence-context.js';

const golden = readGolden('tiny-llama', PACKAGED_GOLDEN_FOLDER);
const settings: LlamaContextSettings = {
  cells: 256,
  batchRows: 8,
  logitsRows: 8,
  threads: 1,
  decodeThreads: 1,
  cacheType: 'f16',
  flashAttention: true,
  offload: false,
};
let model: LanguageModel;
let context: LlamaSequenceContext;

beforeAll(async () => {
  model = await LanguageModel.load({ modelPath: golden.path, device: 'cpu', threads: 1 });
  context = await LlamaSequenceContext.create(model.engine, model.handle, model.shape, settings);
});
afterAll(() => {
  context.dispose();
  return model.dispose();
});

/** Logits behind tokens that follow each other in a sequence, from a position on. */
async function logitsBehind(tokens: readonly number[], sequence: number, position = 0): Promise<Float32Array> {
  for (const [row, token] of tokens.entries()) context.addRow(token, position + row, sequence, row === tokens.length - 1);
  await context.decode();
  return context.logits(tokens.length - 1).slice();
}

it('computes the same in a context that was made anew after a failure', async () => {
  const before = await logitsBehind([1, 2, 3], 0);
  await expect(logitsBehind([4], 0, 9)).rejects.toMatchObject({ code: 'ENGINE_FAILURE' });
  await context.rebuild();
  expect(await logitsBehind([1, 2, 3], 0)).toEqual(before);
});

it('goes on in another thread when the one that decoded has ended', async () => {
  context.clear();
  const before = await logitsBehind([1, 2, 3], 0);
  await decodeThread(model.engine).close();
  context.clear();
  expect(await logitsBehind([1, 2, 3], 0)).toEqual(before);
});

const rule = { sampling: { temperature: 0 }, random: [1, 2, 3, 4] as RandomState, topLogprobs: undefined };

it('computes ahead in a thread that has just been started', async () => {
  await decodeThread(model.engine).close();
  context.clear();
  context.addRow(1, 0, 0, true);
  const [first, [second]] = await Promise.all([context.decode([{ row: 0, rule, stopsAtEnd: false }]), context.decodeChosen(1)]);
  expect([first.choices.length, second?.choices.length]).toEqual([1, 1]);
});

it('computes ahead what it chooses, unless that is withdrawn', async () => {
  context.clear();
  context.addRow(1, 0, 0, true);
  const [first, others] = await Promise.all([context.decode([{ row: 0, rule, stopsAtEnd: false }]), context.decodeChosen(2)]);
  const [tokens, ahead] = [[first, ...others].map(({ choices }) => choices[0]!.token), context.logits(0).slice()];
  context.withdraw();
  expect(await context.decodeChosen(2)).toEqual([]);

  context.clear();
  const best = (logits: Float32Array) => logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
  expect(tokens[0]).toBe(best(await logitsBehind([1], 0)));
  expect(tokens[1]).toBe(best(await logitsBehind([tokens[0]!], 0, 1)));
  const logits = await logitsBehind([tokens[1]!], 0, 2);
  expect(tokens.slice(2)).toEqual([best(logits)]);
  expect(ahead).toEqual(logits);
});

it('has nothing to remove while there is no context, as after one that could not be made anew', async () => {
  const gone = await LlamaSequenceContext.create(model.engine, model.handle, model.shape, settings);
  gone.dispose();
  gone.remove(0);
  gone.clear();
  expect(() => gone.share(0, 1, 3)).toThrow(expect.objectContaining({ code: 'ENGINE_FAILURE' }));
  expect(() => gone.addRow(1, 0, 0, true)).toThrow(expect.objectContaining({ code: 'ENGINE_FAILURE' }));
  await expect(gone.load(0, new Uint8Array(8))).rejects.toMatchObject({ code: 'ENGINE_FAILURE' });
});

it('takes the middle of a sequence out and another one in', async () => {
  context.clear();
  const whole = await logitsBehind([1, 2, 3, 4, 5], 0);
  await logitsBehind([1, 7, 7, 4], 1);
  context.remove(1, 1, 3);
  context.share(0, 1, 3, 1);
  context.remove(1, 3);
  context.share(0, 1, 4, 3);
  const joined = await logitsBehind([5], 1, 4);
  for (const [token, logit] of whole.entries()) expect(joined[token]).toBeCloseTo(logit, 1);
});

const threadIds = () => readdirSync('/proc/self/task');
const statusOf = (id: string) => readFileSync(`/proc/self/task/${id}/status`, 'utf8');

/** A context with threads of its own, and the system's numbers of those. */
async function startContext(threads: number): Promise<{ made: LlamaSequenceContext; helpers: string[] }> {
  const before = threadIds();
  const made = await LlamaSequenceContext.create(model.engine, model.handle, model.shape, {
    ...settings,
    threads,
    decodeThreads: threads,
  });
  return { made, helpers: threadIds().filter((id) => !before.includes(id)) };
}

it.skipIf(process.platform !== 'linux')('computes all batches with the thread it began with', async () => {
  const switches = (id: string) => [...statusOf(id).matchAll(/ctxt_switches:\s*(\d+)/g)].map(([, count]) => Number(count));
  const { made, helpers } = await startContext(2);
  const [helper, ...others] = helpers;
  expect(helper).toBeDefined();
  expect(others).toEqual([]);
  const idle = switches(helper!);
  for (let position = 0; position < 20; position++) {
    made.addRow(1, position, 0, true);
    await made.decode();
  }
  expect(switches(helper!)).not.toEqual(idle);
  made.dispose();
  expect(threadIds()).not.toContain(helper);
});

it.skipIf(process.platform !== 'linux' || availableParallelism() < 2)(
  'gives each thread a processor of its own where there are as many',
  async () => {
    const processors = allowedProcessors()!;
    const placesOf = (ids: readonly string[]) =>
      ids.map((id) => parseProcessorList(/Cpus_allowed_list:\s*(\S+)/.exec(statusOf(id))![1]!));
    const all = await startContext(processors.length);
    expect(placesOf(all.helpers)).toEqual(processors.slice(0, -1).map((processor) => [processor]));
    // The thread that decodes has the last one, and no other thread.
    const alone = placesOf(threadIds()).filter((places) => places.length === 1);
    expect(alone.filter(([processor]) => processor === processors.at(-1))).toHaveLength(1);
    all.made.dispose();
    const { made } = await startContext(1);
    expect(placesOf(threadIds())).toEqual(threadIds().map(() => processors));
    made.dispose();
  },
);
