import { describe, expect, it, vi } from 'vitest';
import { hash, ruledBy, StrictContext } from '../../test/support/strict-context.js';
import type { CartridgesError } from '../core/errors.js';
import { Scheduler } from './scheduler.js';
import { FINISHED, type SequenceWork } from './sequence-work.js';

/** Says hashes of all before it, as many as `length`, which others only know to be at most `mostTokens`. */
class Answer implements SequenceWork {
  readonly length: number;
  readonly scope: string;
  readonly tokens = Int32Array.of(1, 2, 3);
  readonly firstLogitsRow = 2;
  readonly newRows: number;
  readonly sharedTokens = 0;
  readonly cartridges = [];
  readonly generated: number[] = [];
  outcome: 'finished' | CartridgesError | undefined;
  cancelled = false;
  ruled: SequenceWork['ruled'] = ruledBy((logits) => this.consume(logits));
  onToken = (_count: number): void => {};

  constructor(length: number, mostTokens = length, scope = '') {
    this.length = length;
    this.scope = scope;
    this.newRows = mostTokens - 1;
  }

  begin(): void {}

  consume(logits: Float32Array): number {
    expect(logits[0]).toBe(hash([...this.tokens, ...this.generated]));
    this.generated.push(logits[0]!);
    this.onToken(this.generated.length);
    if (this.generated.length < this.length) return logits[0]!;
    this.outcome = 'finished';
    return FINISHED;
  }

  fail(error: CartridgesError): void {
    this.outcome = error;
  }
}

function makeScheduler({ retainTurns = false, runs = 4, logitsRows = 8 } = {}) {
  const context = new StrictContext(200, 20, logitsRows);
  return { context, scheduler: new Scheduler(context, { sequences: 12, runs, sequenceTokens: 100, retainTurns }) };
}

describe.each([false, true])('decodes ahead (turns kept: %s)', (retainTurns) => {
  it('are made while nothing else is to be done, up to the last token', async () => {
    const { context, scheduler } = makeScheduler({ retainTurns });
    const answers = [new Answer(20), new Answer(20)];
    for (const answer of answers) scheduler.submit(answer);
    await scheduler.whenIdle();
    expect(answers.map(({ generated }) => generated.length)).toEqual([20, 20]);
    // One for the prompts, and one that is composed as ever behind them.
    expect(context.batches).toHaveLength(20);
    expect(context.ahead).toEqual({ made: 18, withdrawn: 0 });
    expect(scheduler.statistics).toMatchObject({ decodeCalls: 20, newTokens: 2 * 19 });
    expect(context.violations).toEqual([]);
  });

  it('leave no row of an answer that ended before', async () => {
    const { context, scheduler } = makeScheduler({ retainTurns });
    const [early, late] = [new Answer(6, 40), new Answer(20, 40)];
    for (const answer of [early, late]) scheduler.submit(answer);
    await scheduler.whenIdle();
    expect([early.generated.length, late.generated.length]).toEqual([6, 20]);
    expect(scheduler.statistics.newTokens).toBe(5 + 19);
    expect(context.batches.flatMap((batch) => batch.split(' '))).toHaveLength(3 + 3 + (5 + 1) + (19 + 1));
    // They had the same prompt, and the longer one goes on from the shorter.
    expect(context.cache).toHaveLength(retainTurns ? 3 + 19 : 0);
    expect(scheduler.freeCells).toBe(200 - context.cache.length);
    expect(context.violations).toEqual([]);
  });

  it('are not made for a request that chooses by itself, nor beside one', async () => {
    const { context, scheduler } = makeScheduler({ retainTurns });
    const answers = [new Answer(9), new Answer(9)];
    answers[1]!.ruled = undefined;
    for (const answer of answers) scheduler.submit(answer);
    await scheduler.whenIdle();
    expect(answers.map(({ outcome }) => outcome)).toEqual(['finished', 'finished']);
    expect(context.ahead.made).toBe(0);
  });

  it('end with what runs when one of them fails', async () => {
    const { context, scheduler } = makeScheduler({ retainTurns });
    context.failures.add(7);
    const answer = new Answer(30);
    scheduler.submit(answer);
    await scheduler.whenIdle();
    expect(answer.outcome).toMatchObject({ code: 'ENGINE_FAILURE' });
    expect(answer.generated).toHaveLength(6);
    const next = new Answer(30);
    scheduler.submit(next);
    await scheduler.whenIdle();
    expect(next.outcome).toBe('finished');
    expect(context.violations).toEqual([]);
  });

  it('fail the request alone whose token cannot be taken', async () => {
    const { context, scheduler } = makeScheduler({ retainTurns });
    const [bad, good] = [new Answer(20), new Answer(20)];
    bad.onToken = (count) => {
      if (count === 8) throw new Error('the logits are bad');
    };
    for (const answer of [bad, good]) scheduler.submit(answer);
    await scheduler.whenIdle();
    expect(bad.outcome).toMatchObject({ message: 'the logits are bad' });
    expect(good.outcome).toBe('finished');
    expect(context.violations).toEqual([]);
    expect(scheduler.freeCells).toBe(200 - context.cache.length);
  });

  it('are made while others wait for the cells of those that run', async () => {
    const { context, scheduler } = makeScheduler({ retainTurns });
    const answers = ['a', 'b', 'c'].map((scope) => new Answer(30, 98, scope));
    for (const answer of answers) scheduler.submit(answer);
    await scheduler.whenIdle();
    expect(answers.map(({ outcome }) => outcome)).toEqual(['finished', 'finished', 'finished']);
    expect(context.ahead.made).toBeGreaterThan(50);
    expect(context.violations).toEqual([]);
  });

  it.each([
    ['only while none is wanted', 8, 0],
    ['that no row is left for', 1, 28],
  ])('are made beside drafts %s', async (_, logitsRows, made) => {
    const { context, scheduler } = makeScheduler({ retainTurns, runs: 1, logitsRows });
    const answer = Object.assign(new Answer(30), { draft: (room: number) => new Int32Array(Math.min(room, 1)) });
    scheduler.submit(answer);
    await scheduler.whenIdle();
    expect(answer.outcome).toBe('finished');
    expect(context.ahead.made).toBe(made);
  });

  it('are made while others wait for the place of one that runs', async () => {
    const { context, scheduler } = makeScheduler({ retainTurns, runs: 1 });
    const answers = [new Answer(10), new Answer(10)];
    for (const answer of answers) scheduler.submit(answer);
    await scheduler.whenIdle();
    expect(answers.map(({ outcome }) => outcome)).toEqual(['finished', 'finished']);
    expect(context.ahead.made).toBeGreaterThan(10);
  });
});

describe('short decodes ahead', () => {
  async function askedOf(retainTurns: boolean, decodeMs: number, ...answers: Answer[]) {
    const { context, scheduler } = makeScheduler({ retainTurns });
    context.decodeMs = decodeMs;
    const asked = vi.spyOn(context, 'decodeChosen');
    for (const answer of answers) scheduler.submit(answer);
    await scheduler.whenIdle();
    expect(answers.map(({ outcome, generated, length }) => [outcome, generated.length === length])).toEqual(
      answers.map(() => ['finished', true]),
    );
    const newTokens = answers.reduce((sum, { length }) => sum + length - 1, 0);
    expect(scheduler.statistics.newTokens).toBe(newTokens);
    expect(context.violations).toEqual([]);
    expect(scheduler.freeCells).toBe(200 - context.cache.length);
    return { context, asked: asked.mock.calls.map(([most]) => most) };
  }

  it('are asked for together where turns are kept, and come to the same tokens', async () => {
    const { asked, context } = await askedOf(true, 7, new Answer(40), new Answer(40));
    // As many as 50 ms hold, and no more than the answers have room for.
    expect(Math.max(...asked)).toBe(7);
    expect(asked.length).toBeLessThan(20);
    expect(context.ahead.made).toBeGreaterThan(30);
  });

  it.each([
    ['where the clock must not count', false, 7],
    ['when two of them would take longer', true, 26],
  ])('are asked for one by one %s', async (_, retainTurns, decodeMs) => {
    const { asked } = await askedOf(retainTurns, decodeMs, new Answer(40));
    expect(new Set(asked)).toEqual(new Set([1]));
  });

  it('are withdrawn when an answer ends before, and leave none of its rows', async () => {
    const { context } = await askedOf(true, 3, new Answer(14, 90));
    expect(context.ahead.withdrawn).toBeGreaterThan(0);
    expect(context.cache).toHaveLength(3 + 13);
  });
});

/** What becomes of the third decode ahead when a request comes while the decode in front of it runs. */
async function newRequest(retainTurns: boolean) {
  const { context, scheduler } = makeScheduler({ retainTurns });
  const [first, second] = [new Answer(30), new Answer(2, 2, 'other')];
  const { decodeChosen } = context;
  let asked = 0;
  let running = 0;
  vi.spyOn(context, 'decodeChosen').mockImplementation((most) => {
    const outcomes = decodeChosen.call(context, most);
    if (++asked === 3) {
      running = context.batches.length;
      scheduler.submit(second);
    }
    return outcomes;
  });
  scheduler.submit(first);
  await scheduler.whenIdle();
  expect([first.outcome, second.outcome]).toEqual(['finished', 'finished']);
  expect(context.violations).toEqual([]);
  const isAlone = (batch: string) => batch.split(' ').length === 1;
  return { alone: context.batches.slice(running).findIndex((batch) => !isAlone(batch)), withdrawn: context.ahead.withdrawn };
}

it('a new request is in the next decode where turns are kept, and in the one behind where the clock must not count', async () => {
  expect(await newRequest(true)).toEqual({ alone: 0, withdrawn: 1 });
  expect(await newRequest(false)).toEqual({ alone: 1, withdrawn: 0 });
});
