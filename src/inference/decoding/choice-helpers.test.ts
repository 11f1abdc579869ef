import { once } from 'node:events';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { afterEach, expect, it, vi } from 'vitest';
import { Random, type RandomState } from '../../core/random.js';
import { WorkerThread } from '../../core/worker-thread.js';
import { addressedFloats } from '../../tensor/native-memory.js';
import { TopCandidates } from '../top-logprobs.js';
import { ChoiceHelpers } from './choice-helpers.js';
import { type ChoiceRequests, type ChoiceRow, type ChoiceTask, chooseBehind } from './choice-task.js';
import { LogitsMemory } from './logits-memory.js';
import { RowClaims } from './row-claims.js';

const VOCABULARY_SIZE = 1_000;
const ROWS = 24;

const threads: WorkerThread<ChoiceRequests>[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  await Promise.all(threads.splice(0).map((thread) => thread.close()));
});

/** Helpers in threads of their own that have begun. */
async function startHelpers(count: number): Promise<ChoiceHelpers> {
  const claims = new RowClaims().shared;
  const ports: MessagePort[] = [];
  for (let i = 0; i < count; i++) {
    const { port1, port2 } = new MessageChannel();
    const entry = new URL('./choice-worker.js', import.meta.url);
    const thread = new WorkerThread<ChoiceRequests>({ entry, name: 'a helper', hints: { start: '', stop: '' } });
    threads.push(thread);
    ports.push(port2);
    await thread.request('help', { port: port1, claims }, [port1]);
  }
  return new ChoiceHelpers(ports, claims, new TopCandidates());
}

const logits = addressedFloats(ROWS * VOCABULARY_SIZE);
const memory = new LogitsMemory(VOCABULARY_SIZE);

/** Rows of random logits, one with a number that is none, and rules of every kind. */
function randomRows(seed: number): ChoiceRow[] {
  const random = new Random(seed);
  for (let i = 0; i < logits.values.length; i++) logits.values[i] = 12 * random.uniform();
  logits.values[3 * VOCABULARY_SIZE + 7] = Number.POSITIVE_INFINITY;
  return Array.from({ length: ROWS }, (_, row) => ({
    logits: logits.address + BigInt(row * VOCABULARY_SIZE * Float32Array.BYTES_PER_ELEMENT),
    rule: {
      sampling: [{ temperature: 0 }, { temperature: 1, seed: 5 }, { temperature: 1.5, topK: 9, topP: 0.8, seed: 6 }][row % 3]!,
      random: [seed, 2, 3, row] as RandomState,
      topLogprobs: [undefined, 0, 20][row % 4],
    },
  }));
}

const chooseAlone = (rows: readonly ChoiceRow[]) => rows.map((row) => chooseBehind(row, memory, new TopCandidates()));

it.each([1, 3])('choose with %i other threads what one chooses', async (count) => {
  const helpers = await startHelpers(count);
  for (let seed = 0; seed < 50; seed++) {
    const rows = randomRows(seed);
    expect(helpers.choose(rows, memory)).toEqual(chooseAlone(rows));
  }
  expect(helpers.choose([], memory)).toEqual([]);
});

/** A helper in this thread, which does what it is told when a task comes. */
function standIn(onTask: (task: ChoiceTask, claims: RowClaims, port: MessagePort) => void) {
  const claims = new RowClaims();
  const { port1, port2 } = new MessageChannel();
  const helpers = new ChoiceHelpers([port2], claims.shared, new TopCandidates());
  vi.spyOn(port2, 'postMessage').mockImplementation((task) => onTask(task as ChoiceTask, claims, port1));
  return { helpers, port: port1 };
}

it('takes the rows that another thread chose, and does not wait for one that has taken none', () => {
  const other = { token: 1, logprob: -1 };
  const { helpers } = standIn((task, claims, port) => {
    const index = task.start === 0 ? claims.claim(task)! : undefined;
    if (index === undefined) return;
    port.postMessage({ start: task.start, choices: [{ index, choice: other }] });
    claims.finish(1);
  });
  const rows = randomRows(1);
  const alone = chooseAlone(rows);
  expect(helpers.choose(rows, memory)).toEqual([other, ...alone.slice(1)]);
  expect(helpers.choose(rows, memory)).toEqual(alone);
});

it('fails with the row that fails, and chooses again behind it', async () => {
  const helpers = await startHelpers(1);
  const rows = randomRows(3);
  const broken = Object.assign(new LogitsMemory(VOCABULARY_SIZE), {
    at: () => {
      throw new Error('no memory');
    },
  });
  const waitFor = vi.spyOn(RowClaims.prototype, 'waitFor');
  expect(() => helpers.choose(rows, broken)).toThrow('no memory');
  expect(helpers.choose(rows, memory)).toEqual(chooseAlone(rows));
  expect(waitFor.mock.results.map(({ value }) => value)).toEqual([true, true]);
});

it('goes on alone, and says so, when a thread ends with a row that it took', async () => {
  const waitFor = vi.spyOn(RowClaims.prototype, 'waitFor').mockReturnValue(false);
  const warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
  const { helpers, port } = standIn((task, claims) => void claims.claim(task));
  const rows = randomRows(2);
  const [alone, closed] = [chooseAlone(rows), once(port, 'close')];
  expect(helpers.choose(rows, memory)).toEqual(alone);
  await closed;
  expect(warn).toHaveBeenCalledWith(expect.stringContaining('did not answer'));
  expect(helpers.choose(rows, memory)).toEqual(alone);
  expect(waitFor).toHaveBeenCalledOnce();
});
