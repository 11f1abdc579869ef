import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hash, ruledBy, StrictContext } from '../../test/support/strict-context.js';
import type { CartridgesError } from '../core/errors.js';
import { packageRoot } from '../core/package.js';
import { Random } from '../core/random.js';
import { TextDraft } from './drafting/text-draft.js';
import type { InferenceEngine } from './inference-engine.js';
import { LanguageModel } from './language-model.js';
import type { Completion, GeneratedToken } from './requests.js';
import { Scheduler } from './scheduler.js';
import { FINISHED, type SequenceWork } from './sequence-work.js';

interface Plan {
  ownTokens: number;
  sharedTokens: number;
  maxTokens: number;
  /** Ends before its most tokens, as at the end of a turn. */
  endsAfter?: number;
  cancelAfter?: number;
  throwsAfter?: number;
  /** A drafted token is right with this probability; without one nothing is drafted. */
  accuracy?: number;
  /** Tokens behind which nothing is drafted are chosen by the context. */
  byRule?: boolean;
}

/** Answers with hashes of all before, and drafts what it will answer, with mistakes. */
class DraftingWork implements SequenceWork {
  readonly tokens: Int32Array;
  readonly firstLogitsRow: number;
  readonly newRows: number;
  readonly sharedTokens: number;
  readonly scope = '';
  readonly cartridges = [];
  readonly generated: number[] = [];
  outcome: 'finished' | CartridgesError | undefined;
  cancelled = false;
  readonly #plan: Plan;
  readonly #random: Random;

  constructor(plan: Plan, seed: number) {
    this.#plan = plan;
    this.#random = new Random(seed);
    const { sharedTokens, ownTokens } = plan;
    const shared = Array.from({ length: sharedTokens }, (_, i) => 100 + i);
    this.tokens = Int32Array.of(...shared, ...Array.from({ length: ownTokens }, () => this.#random.integer(3)));
    this.sharedTokens = sharedTokens;
    this.firstLogitsRow = this.tokens.length - 1;
    this.newRows = plan.maxTokens - 1;
  }

  get known(): number[] {
    return [...this.tokens, ...this.generated];
  }

  begin(): void {}

  consume(logits: Float32Array): number {
    expect(this.outcome).toBeUndefined();
    expect(logits[0]).toBe(hash(this.known));
    this.generated.push(logits[0]!);
    const { maxTokens, endsAfter = maxTokens, cancelAfter, throwsAfter } = this.#plan;
    const count = this.generated.length;
    if (count === throwsAfter) throw new Error('the logits are bad');
    if (count === cancelAfter) this.cancelled = true;
    if (count < Math.min(maxTokens, endsAfter)) return logits[0]!;
    this.outcome = 'finished';
    return FINISHED;
  }

  get ruled() {
    return this.#plan.byRule ? ruledBy((logits) => this.consume(logits)) : undefined;
  }

  draft(room: number): Int32Array {
    if (this.#plan.accuracy === undefined || this.#random.integer(3) === 0) return new Int32Array(0);
    const tokens = this.known;
    for (let i = this.#random.integer(room + 1); i > 0; i--) {
      tokens.push(this.#random.uniform() < this.#plan.accuracy ? hash(tokens) : this.#random.integer(3));
    }
    return Int32Array.from(tokens.slice(this.known.length));
  }

  fail(error: CartridgesError): void {
    expect(this.outcome).toBeUndefined();
    this.outcome = error;
  }
}

const count = fc.integer({ min: 1, max: 14 });
const plans: fc.Arbitrary<Plan[]> = fc.array(
  fc.record(
    {
      ownTokens: fc.integer({ min: 1, max: 9 }),
      sharedTokens: fc.constantFrom(0, 3, 11),
      maxTokens: count,
      endsAfter: count,
      cancelAfter: count,
      throwsAfter: count,
      accuracy: fc.constantFrom(0, 0.5, 0.9, 1),
      byRule: fc.boolean(),
    },
    { requiredKeys: ['ownTokens', 'sharedTokens', 'maxTokens'] },
  ),
  { minLength: 1, maxLength: 16 },
);
const sizes = fc.record({
  cells: fc.integer({ min: 60, max: 160 }),
  batchRows: fc.integer({ min: 5, max: 30 }),
  logitsRows: fc.integer({ min: 5, max: 20 }),
  runs: fc.integer({ min: 1, max: 5 }),
  retainTurns: fc.boolean(),
});
type Size = typeof sizes extends fc.Arbitrary<infer T> ? T : never;

async function runAll(planned: readonly Plan[], size: Size, failures: readonly number[] = []) {
  const context = new StrictContext(size.cells, size.batchRows, Math.min(size.logitsRows, size.batchRows));
  for (const failure of failures) context.failures.add(failure);
  const scheduler = new Scheduler(context, { ...size, sequences: 12, sequenceTokens: size.cells });
  const works = planned.map((plan, index) => new DraftingWork(plan, index));
  for (const work of works) {
    scheduler.submit(work);
    if (work.tokens.length % 3 === 0) await setImmediate();
  }
  await scheduler.whenIdle();
  expect(context.violations).toEqual([]);
  return { context, scheduler, works };
}

describe('drafts in the scheduler', () => {
  it('give each request what it is given without, whatever is drafted and whatever fails', async () => {
    const failures = fc.array(fc.integer({ min: 1, max: 25 }), { maxLength: 2 });
    await fc.assert(
      fc.asyncProperty(plans, sizes, failures, async (planned, size, failing) => {
        const { context, scheduler, works } = await runAll(planned, size, failing);
        works.forEach(({ outcome, generated }, index) => {
          const { maxTokens, endsAfter = maxTokens, cancelAfter, throwsAfter } = planned[index]!;
          const length = Math.min(maxTokens, endsAfter);
          if (outcome === 'finished') expect(generated).toHaveLength(length);
          else if (outcome?.code === 'CANCELLED') expect(cancelAfter).toBeLessThan(length);
          else if (outcome?.message.includes('logits')) expect(generated).toHaveLength(throwsAfter!);
          else expect(outcome?.code).toBe('ENGINE_FAILURE');
        });
        const { freeCells, requestCells } = scheduler.usage;
        expect(requestCells).toBe(0);
        expect(context.cache.length).toBe(size.cells - freeCells);
      }),
      { numRuns: 150 },
    );
  });

  it('count what was drafted and what came true', async () => {
    await fc.assert(
      fc.asyncProperty(plans, sizes, async (planned, size) => {
        // What is computed ahead of an end that nobody knew of counts nowhere.
        const whole = planned.map(({ cancelAfter: _, throwsAfter: __, byRule: ___, ...plan }) => plan);
        const { context, scheduler, works } = await runAll(whole, size);
        const { newTokens, promptTokens, draftedTokens, acceptedTokens } = scheduler.statistics;
        expect(newTokens).toBe(works.reduce((sum, { generated }) => sum + generated.length - 1, 0));
        expect(acceptedTokens).toBeLessThanOrEqual(draftedTokens);
        const rows = context.batches.reduce((sum, batch) => sum + batch.split(' ').length, 0);
        expect(rows).toBe(promptTokens + newTokens + draftedTokens - acceptedTokens);
      }),
      { numRuns: 60 },
    );
  });

  it('form the same batches from the same requests', async () => {
    await fc.assert(
      fc.asyncProperty(plans, sizes, async (planned, { retainTurns: _, ...size }) => {
        const first = await runAll(planned, { ...size, retainTurns: false });
        const second = await runAll(planned, { ...size, retainTurns: false });
        expect(second.context.batches).toEqual(first.context.batches);
      }),
      { numRuns: 30 },
    );
  });

  it('take fewer decodes when they are right, and as many when they are wrong', async () => {
    const size = { cells: 160, batchRows: 30, logitsRows: 20, runs: 4, retainTurns: false };
    const plan = { ownTokens: 4, sharedTokens: 0, maxTokens: 14 };
    const decodes = async (accuracy: number) => {
      const { context } = await runAll(new Array(3).fill({ ...plan, accuracy }), size);
      return context.batches.length;
    };
    expect(await decodes(0)).toBe(14);
    expect(await decodes(1)).toBeLessThan(10);
  });

  it('leave the rows of a finished request to the next turn, without those that came to nothing', async () => {
    const context = new StrictContext(200, 40, 20);
    const scheduler = new Scheduler(context, { sequences: 8, runs: 2, sequenceTokens: 200, retainTurns: true });
    const first = new DraftingWork({ ownTokens: 5, sharedTokens: 0, maxTokens: 30, endsAfter: 17, accuracy: 0.9 }, 1);
    scheduler.submit(first);
    await scheduler.whenIdle();
    expect(context.cache).toHaveLength(5 + 16);
    expect(scheduler.statistics.draftedTokens).toBeGreaterThan(scheduler.statistics.acceptedTokens);
    const next = new DraftingWork({ ownTokens: 1, sharedTokens: 0, maxTokens: 4 }, 2);
    Object.assign(next, { tokens: Int32Array.from(first.known), firstLogitsRow: first.known.length - 1 });
    scheduler.submit(next);
    await scheduler.whenIdle();
    expect(scheduler.statistics.cachedPromptTokens).toBe(5 + 16);
    expect(context.violations).toEqual([]);
  });
});

describe('drafts of the pocket model', () => {
  let model: LanguageModel;
  let engine: InferenceEngine;
  let prompts: Int32Array[];

  beforeAll(async () => {
    model = await LanguageModel.load({ modelPath: `${packageRoot}/models/pocket/pocket.gguf`, device: 'cpu', threads: 1 });
    engine = await model.createContext({ contextTokens: 2048, maxRequests: 8, batchTokens: 128 });
    const text = 'The lamp of the tower is white. The bell of the harbour is old. The key of the mill is lost.';
    const texts = [
      `${text} ${text}`,
      `${text} The lamp of the`,
      'na na na na na na na na',
      'one two three one two three one two',
    ];
    prompts = texts.map((each) => model.tokenizer.encode(each));
  });
  afterAll(() => model.dispose());

  const GREEDY = { temperature: 0 };
  const request = (index: number) => ({ prompt: prompts[index]!, maxTokens: 40, sampling: GREEDY, topLogprobs: 5 });
  const draft = new TextDraft();

  it('change no token, and log-probs by no more than rounding', async () => {
    for (const index of prompts.keys()) {
      const plainAnswer = await engine.complete(request(index));
      const before = engine.statistics;
      const drafted = await engine.complete({ ...request(index), draft });
      expect(drafted.tokens).toEqual(plainAnswer.tokens);
      expect(drafted.text).toBe(plainAnswer.text);
      expect(drafted.finishReason).toBe(plainAnswer.finishReason);
      drafted.logprobs.forEach((logprob, row) => {
        expect(Math.abs(logprob - plainAnswer.logprobs[row]!)).toBeLessThan(0.02);
      });
      const { decodeCalls, acceptedTokens } = engine.statistics;
      const needed = drafted.tokens.length - (acceptedTokens - before.acceptedTokens);
      // One more where an end came that the decode behind it did not wait for.
      const ahead = drafted.finishReason === 'stop' ? [needed, needed + 1] : [needed];
      expect(ahead).toContain(decodeCalls - before.decodeCalls);
    }
    expect(engine.statistics.acceptedTokens).toBeGreaterThan(20);
    await engine.whenIdle();
    expect(engine.freeCells).toBe(engine.contextTokens);
  });

  it('are the same in the same requests again', async () => {
    const run = async () => {
      await engine.whenIdle();
      const answers = await Promise.all([0, 1, 2, 3].map((index) => engine.complete({ ...request(index), draft })));
      return answers.map(({ timings: _, ...rest }: Completion) => rest);
    };
    expect(await run()).toEqual(await run());
  });

  it('end at stop strings and at the most tokens, as without', async () => {
    const { text, tokens } = await engine.complete({ ...request(2), ignoreEndOfGeneration: true });
    const stop = [text.slice(9, 12)];
    for (const change of [{ stop }, { maxTokens: 1 }, { maxTokens: 7 }, { sampling: { ...GREEDY, frequencyPenalty: 0.5 } }]) {
      const changed = { ...request(2), ignoreEndOfGeneration: true, ...change };
      const plainAnswer = await engine.complete(changed);
      const drafted = await engine.complete({ ...changed, draft });
      expect(drafted.tokens).toEqual(plainAnswer.tokens);
      expect(drafted.text).toBe(plainAnswer.text);
      expect(drafted.usage).toEqual(plainAnswer.usage);
    }
    expect(tokens).toHaveLength(40);
  });

  it('follow a grammar, and leave requests that draw alone', async () => {
    const grammar = 'root ::= ("na" " "?)+';
    const constrained = { ...request(2), grammar, maxTokens: 30 };
    expect((await engine.complete({ ...constrained, draft })).tokens).toEqual((await engine.complete(constrained)).tokens);
    const { draftedTokens } = engine.statistics;
    await engine.complete({ ...request(2), sampling: { temperature: 1, seed: 3 }, draft });
    expect(engine.statistics.draftedTokens).toBe(draftedTokens);
  });

  it('are streamed one by one, and cancelled in the middle', async () => {
    const streamed: GeneratedToken[] = [];
    for await (const token of engine.generate({ ...request(2), draft })) {
      streamed.push(token);
      if (streamed.length === 13) break;
    }
    expect(streamed.map(({ token }) => token)).toEqual([...(await engine.complete(request(2))).tokens.subarray(0, 13)]);
    await engine.whenIdle();
    expect(engine.freeCells).toBe(engine.contextTokens);
  });

  it('come from a text that the requests share', async () => {
    const answer = await engine.complete(request(1));
    const shared = new TextDraft(answer.tokens);
    const before = engine.statistics;
    expect((await engine.complete({ ...request(1), draft: shared })).tokens).toEqual(answer.tokens);
    expect(engine.statistics.acceptedTokens - before.acceptedTokens).toBeGreaterThan(answer.tokens.length / 3);
  });
});
