import fc from 'fast-check';
import { expect, it, vi } from 'vitest';
import { hash, ruledBy, StrictContext } from '../../test/support/strict-context.js';
import type { CartridgesError } from '../core/errors.js';
import { Scheduler } from './scheduler.js';
import { type CartridgeRows, FINISHED, type SequenceWork } from './sequence-work.js';

function cartridge(id: number, tokenCount: number): CartridgeRows {
  return { key: `c${id}`, tokenCount, stateBlob: (first) => Uint8Array.of(first, id, tokenCount) };
}

interface Plan {
  scope?: string;
  prefix: number;
  prefixTokens: number;
  ownTokens: number;
  newTokens: number;
  cartridges: number[];
  cancelAfter?: number;
  /** Its tokens are chosen by the context. */
  byRule?: boolean;
}

/** What a plan must lead to, whatever runs beside it: each next token is the hash of all before it. */
function expectedTokens(plan: Plan, cartridges: readonly CartridgeRows[]): number[] {
  const before = plan.cartridges.flatMap((id) => {
    return Array.from({ length: cartridges[id]!.tokenCount }, (_, row) => 1000 + id * 50 + row);
  });
  const tokens = [...before, ...promptOf(plan)];
  return Array.from({ length: plan.newTokens }, () => {
    tokens.push(hash(tokens));
    return tokens.at(-1)!;
  });
}

function promptOf({ prefix, prefixTokens, ownTokens }: Plan): Int32Array {
  const shared = Array.from({ length: prefixTokens }, (_, index) => 100 * (prefix + 1) + index);
  return Int32Array.of(...shared, ...Array.from({ length: ownTokens }, (_, index) => index + 1));
}

class PlannedWork implements SequenceWork {
  readonly tokens: Int32Array;
  readonly firstLogitsRow: number;
  readonly newRows: number;
  readonly sharedTokens: number;
  readonly scope: string;
  readonly cartridges: readonly CartridgeRows[];
  readonly generated: number[] = [];
  readonly done: Promise<'finished' | CartridgesError>;
  cachedTokens = 0;
  cancelled = false;
  #plan: Plan;
  #settle!: (outcome: 'finished' | CartridgesError) => void;

  constructor(plan: Plan, cartridges: readonly CartridgeRows[]) {
    this.#plan = plan;
    this.scope = plan.scope ?? '';
    this.tokens = promptOf(plan);
    this.firstLogitsRow = this.tokens.length - 1;
    this.newRows = plan.newTokens - 1;
    this.sharedTokens = plan.prefixTokens;
    this.cartridges = plan.cartridges.map((id) => cartridges[id]!);
    this.done = new Promise((resolve) => {
      this.#settle = resolve;
    });
  }

  begin(cachedTokens: number): void {
    this.cachedTokens = cachedTokens;
  }

  consume(logits: Float32Array): number {
    this.generated.push(logits[0]!);
    if (this.generated.length === this.#plan.cancelAfter) this.cancelled = true;
    if (this.generated.length < this.#plan.newTokens) return logits[0]!;
    this.#settle('finished');
    return FINISHED;
  }

  get ruled() {
    return this.#plan.byRule ? ruledBy((logits) => this.consume(logits)) : undefined;
  }

  fail(error: CartridgesError): void {
    this.#settle(error);
  }
}

interface Size {
  cells: number;
  batchRows: number;
  runs: number;
  sequences: number;
}

const plans: fc.Arbitrary<Plan[]> = fc.array(
  fc.record(
    {
      prefix: fc.integer({ min: 0, max: 1 }),
      // Few lengths, so that prefixes are often the same.
      prefixTokens: fc.constantFrom(0, 3, 11),
      ownTokens: fc.integer({ min: 1, max: 9 }),
      newTokens: fc.integer({ min: 1, max: 8 }),
      cartridges: fc.constantFrom<number[]>([], [], [], [0], [0, 1], [1, 0]),
      cancelAfter: fc.integer({ min: 1, max: 8 }),
      byRule: fc.boolean(),
    },
    { requiredKeys: ['prefix', 'prefixTokens', 'ownTokens', 'newTokens', 'cartridges'] },
  ),
  { maxLength: 25 },
);
const sizes: fc.Arbitrary<Size> = fc.record({
  cells: fc.integer({ min: 60, max: 160 }),
  batchRows: fc.integer({ min: 4, max: 24 }),
  runs: fc.integer({ min: 1, max: 4 }),
  sequences: fc.integer({ min: 7, max: 12 }),
});

async function runAll(planned: readonly Plan[], size: Size, failures: number[]) {
  const context = new StrictContext(size.cells, size.batchRows, size.runs);
  for (const failure of failures) context.failures.add(failure);
  const scheduler = new Scheduler(context, { ...size, sequenceTokens: size.cells });
  const cartridges = [cartridge(0, 5), cartridge(1, 3)];
  const loaded = cartridges.map((rows) => scheduler.loadCartridge(rows));
  const works = planned.map((plan) => new PlannedWork(plan, cartridges));
  for (const work of works) scheduler.submit(work);
  await Promise.all(loaded);
  const outcomes = await Promise.all(works.map((work) => work.done));
  await scheduler.whenIdle();
  expect(context.violations).toEqual([]);
  return { context, scheduler, cartridges, works, outcomes };
}

it('runs random requests as if each were alone, and leaves no cell behind', async () => {
  const failures = fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 2 });
  await fc.assert(
    fc.asyncProperty(plans, sizes, failures, async (planned, size, failing) => {
      const { context, scheduler, cartridges, works, outcomes } = await runAll(planned, size, failing);
      outcomes.forEach((outcome, index) => {
        const plan = planned[index]!;
        const expected = expectedTokens(plan, cartridges);
        expect(works[index]!.generated).toEqual(expected.slice(0, works[index]!.generated.length));
        if (outcome === 'finished') expect(works[index]!.generated).toHaveLength(plan.newTokens);
        else if (outcome.code === 'CANCELLED') expect(plan.cancelAfter).toBeLessThan(plan.newTokens);
        else expect(failing.length).toBeGreaterThan(0);
      });
      expect(context.cache.map((cell) => [...cell.sequences])).toHaveLength(8);
      expect(scheduler.freeCells).toBe(size.cells - 8);
      await Promise.all(cartridges.map((rows) => scheduler.unloadCartridge(rows)));
      await scheduler.whenIdle();
      expect(context.cache).toEqual([]);
      expect(scheduler.freeCells).toBe(size.cells);
    }),
    { numRuns: 100 },
  );
});

it('forms the same batches from the same requests', async () => {
  await fc.assert(
    fc.asyncProperty(plans, sizes, async (planned, size) => {
      const [first, second] = [await runAll(planned, size, []), await runAll(planned, size, [])];
      expect(second.context.batches).toEqual(first.context.batches);
    }),
    { numRuns: 30 },
  );
});

it('counts every prompt token as computed or shared', async () => {
  await fc.assert(
    fc.asyncProperty(plans, sizes, async (planned, size) => {
      const uncut = planned.map(({ cancelAfter: _cancelAfter, ...plan }) => plan);
      const { scheduler, works } = await runAll(uncut, size, []);
      const { promptTokens, cachedPromptTokens, newTokens } = scheduler.statistics;
      expect(promptTokens + cachedPromptTokens).toBe(works.reduce((sum, work) => sum + work.tokens.length, 0));
      expect(cachedPromptTokens).toBe(works.reduce((sum, work) => sum + work.cachedTokens, 0));
      expect(newTokens).toBe(works.reduce((sum, work) => sum + work.newRows, 0));
    }),
    { numRuns: 50 },
  );
});

it('reads a long prompt in pieces beside the others', async () => {
  const long: Plan = { prefix: 0, prefixTokens: 0, ownTokens: 20, newTokens: 1, cartridges: [] };
  const short = { ...long, ownTokens: 1, newTokens: 4 };
  const { context } = await runAll([short, long], { cells: 160, batchRows: 6, runs: 4, sequences: 12 }, []);
  expect(context.batches.map((batch) => batch.split(' ').length)).toEqual([6, 6, 6, 6]);
});

it('lets the event loop have its turns while many requests choose their tokens', async () => {
  let [inOneTurn, most] = [0, 0];
  class SlowWork extends PlannedWork {
    override consume(logits: Float32Array): number {
      inOneTurn++;
      most = Math.max(most, inOneTurn);
      setImmediate(() => (inOneTurn = 0));
      for (const start = performance.now(); performance.now() - start < 2; );
      return super.consume(logits);
    }
  }
  const scheduler = new Scheduler(new StrictContext(400, 40, 20), { sequences: 24, runs: 20, sequenceTokens: 100 });
  const plan: Plan = { prefix: 0, prefixTokens: 0, ownTokens: 1, newTokens: 3, cartridges: [] };
  const works = Array.from({ length: 20 }, () => new SlowWork(plan, []));
  for (const work of works) scheduler.submit(work);
  expect(new Set(await Promise.all(works.map((work) => work.done)))).toEqual(new Set(['finished']));
  expect(most).toBeLessThanOrEqual(3);
});

it('hands a shared prefix on when the request that computes it is cancelled', async () => {
  const context = new StrictContext(100, 8, 4);
  const scheduler = new Scheduler(context, { sequences: 8, runs: 4, sequenceTokens: 100 });
  const plan: Plan = { prefix: 1, prefixTokens: 20, ownTokens: 2, newTokens: 3, cartridges: [] };
  const works = [new PlannedWork(plan, []), new PlannedWork(plan, []), new PlannedWork(plan, [])];
  for (const work of works) scheduler.submit(work);
  setImmediate(() => setImmediate(() => (works[0]!.cancelled = true)));
  expect(await works[0]!.done).toMatchObject({ code: 'CANCELLED' });
  expect(await Promise.all(works.slice(1).map((work) => work.done))).toEqual(['finished', 'finished']);
  expect(works.map((work) => work.cachedTokens)).toEqual([0, 0, 20]);
  expect(works[2]!.generated).toEqual(expectedTokens(plan, []));
});

it('keeps a prefix while it is busy, makes room by dropping unused ones, and forgets all when idle', async () => {
  const context = new StrictContext(60, 30, 4);
  const scheduler = new Scheduler(context, { sequences: 8, runs: 1, sequenceTokens: 60 });
  const plan = (prefix: number): Plan => ({ prefix, prefixTokens: 20, ownTokens: 1, newTokens: 1, cartridges: [] });
  const works = [plan(0), plan(1), plan(0), plan(2), plan(0), plan(1)].map((each) => new PlannedWork(each, []));
  for (const work of works) scheduler.submit(work);
  await Promise.all(works.map((work) => work.done));
  expect(works.map((work) => work.cachedTokens)).toEqual([0, 0, 20, 0, 20, 0]);
  await scheduler.whenIdle();
  expect(context.cache).toEqual([]);
});

it('gives the room of a refused cartridge back', async () => {
  const context = new StrictContext(40, 8, 4);
  const scheduler = new Scheduler(context, { sequences: 8, runs: 4, sequenceTokens: 40 });
  await expect(scheduler.loadCartridge(cartridge(255, 30))).rejects.toThrow('refused');
  await scheduler.loadCartridge(cartridge(1, 30));
  expect(() => scheduler.loadCartridge(cartridge(2, 20))).toThrow(expect.objectContaining({ code: 'CONTEXT_OVERFLOW' }));
  expect(scheduler.freeCells).toBe(10);
});

it('refuses at once what no empty cache would hold', () => {
  const scheduler = new Scheduler(new StrictContext(40, 8, 4), { sequences: 1, runs: 4, sequenceTokens: 30 });
  const plan: Plan = { prefix: 0, prefixTokens: 0, ownTokens: 10, newTokens: 21, cartridges: [] };
  const submit = (change: Partial<Plan>) => () => scheduler.submit(new PlannedWork({ ...plan, ...change }, []));
  const overflow = (message: string) =>
    expect.objectContaining({ code: 'CONTEXT_OVERFLOW', message: expect.stringContaining(message) });
  expect(submit({})).not.toThrow();
  expect(submit({ newTokens: 22 })).toThrow(overflow('needs 31 tokens (0 of cartridges, 10 of the prompt, 21 new)'));
  expect(submit({ prefixTokens: 4, ownTokens: 1 })).toThrow(overflow('a sequence beyond'));
});

it('fails what waits and runs when it is closed', async () => {
  const context = new StrictContext(40, 8, 4);
  const scheduler = new Scheduler(context, { sequences: 8, runs: 1, sequenceTokens: 40 });
  const plan: Plan = { prefix: 0, prefixTokens: 0, ownTokens: 1, newTokens: 30, cartridges: [] };
  const works = [new PlannedWork(plan, []), new PlannedWork(plan, [])];
  for (const work of works) scheduler.submit(work);
  setImmediate(() => scheduler.close());
  const outcomes = await Promise.all(works.map((work) => work.done));
  expect(outcomes).toEqual([expect.objectContaining({ code: 'CANCELLED' }), expect.objectContaining({ code: 'CANCELLED' })]);
  expect(() => scheduler.submit(new PlannedWork(plan, []))).toThrow(expect.objectContaining({ code: 'CANCELLED' }));
});

const simple: Plan = { prefix: 0, prefixTokens: 0, ownTokens: 2, newTokens: 1, cartridges: [] };

/** The order in which works of these scopes finish, one running at a time. */
async function orderOf(scopes: string): Promise<string> {
  const scheduler = new Scheduler(new StrictContext(40, 8, 1), { sequences: 8, runs: 1, sequenceTokens: 40 });
  const order: string[] = [];
  const works = [...scopes].map((scope) => new PlannedWork({ ...simple, scope }, []));
  for (const [index, work] of works.entries()) work.done.then(() => order.push(`${work.scope}${index}`));
  for (const work of works) scheduler.submit(work);
  await scheduler.whenIdle();
  return order.join(' ');
}

it('lets scopes take turns, and keeps the order inside of each', async () => {
  expect(await orderOf('aaaa')).toBe('a0 a1 a2 a3');
  expect(await orderOf('aaaabbc')).toBe('a0 b4 c6 a1 b5 a2 a3');
});

it('reads a short prompt beside a long one where turns are kept', async () => {
  const decodesUntilDone = async (retainTurns: boolean) => {
    const context = new StrictContext(200, 8, 4);
    const scheduler = new Scheduler(context, { sequences: 8, runs: 4, sequenceTokens: 200, retainTurns });
    const [long, short] = [new PlannedWork({ ...simple, ownTokens: 100 }, []), new PlannedWork({ ...simple, scope: 'b' }, [])];
    for (const work of [long, short]) scheduler.submit(work);
    await short.done;
    const decodes = context.batches.length;
    await scheduler.whenIdle();
    expect(long.generated).toEqual(expectedTokens({ ...simple, ownTokens: 100 }, []));
    return decodes;
  };
  expect(await decodesUntilDone(false)).toBe(13);
  expect(await decodesUntilDone(true)).toBe(1);
});

it('does not compute a beginning twice at the same time where turns are kept, nor share it with another scope', async () => {
  const context = new StrictContext(400, 64, 8);
  const scheduler = new Scheduler(context, { sequences: 16, runs: 8, sequenceTokens: 400, retainTurns: true });
  const plan = { ...simple, prefixTokens: 50, newTokens: 3 };
  const works = ['a', 'a', 'b', 'a'].map((scope, index) => new PlannedWork({ ...plan, scope, ownTokens: index + 1 }, []));
  for (const work of works) scheduler.submit(work);
  await Promise.all(works.map((work) => work.done));
  expect(works.map((work) => work.cachedTokens)).toEqual([0, 51, 0, 51]);
  works.forEach((work, index) => {
    expect(work.generated).toEqual(expectedTokens({ ...plan, ownTokens: index + 1 }, []));
  });
  expect(context.violations).toEqual([]);
});

it.each([false, true])('fails what runs when a decode fails, starts anew and goes on (turns kept: %s)', async (retainTurns) => {
  const context = new StrictContext(100, 8, 4);
  const scheduler = new Scheduler(context, { sequences: 8, runs: 2, sequenceTokens: 100, retainTurns });
  const cartridges = [cartridge(0, 5)];
  await scheduler.loadCartridge(cartridges[0]!);
  context.failures.add(2);
  context.failingRebuilds = 1;
  const plan = { ...simple, newTokens: 4, cartridges: [0] };
  const works = [0, 1, 2].map(() => new PlannedWork(plan, cartridges));
  for (const work of works) scheduler.submit(work);
  const failure = { code: 'ENGINE_FAILURE', message: expect.stringContaining('the decode failed') };
  expect(await works[0]!.done).toMatchObject(failure);
  expect(await works[1]!.done).toMatchObject(failure);
  // The new context could not be made: what waited for it is told so.
  const down = { code: 'ENGINE_DOWN', message: expect.stringContaining('no memory for a context') };
  expect(await works[2]!.done).toMatchObject(down);
  expect(scheduler.failure).toMatchObject(down);
  const later = new PlannedWork(plan, cartridges);
  scheduler.submit(later);
  expect(await later.done).toBe('finished');
  expect(later.generated).toEqual(expectedTokens(plan, cartridges));
  expect(context.rebuilds).toBe(2);
  expect(scheduler.failure).toBeUndefined();
  await scheduler.unloadCartridge(cartridges[0]!);
  await scheduler.whenIdle();
  expect(scheduler.usage).toMatchObject({ requestCells: 0, cartridgeCells: 0, running: 0, waiting: 0 });
  expect(context.violations).toEqual([]);
});

it.each([false, true])('lets cartridges go while the engine is down (turns kept: %s)', async (retainTurns) => {
  const context = new StrictContext(100, 8, 4);
  const scheduler = new Scheduler(context, { sequences: 8, runs: 2, sequenceTokens: 100, retainTurns });
  const cartridges = [cartridge(0, 5), cartridge(1, 3)];
  for (const rows of cartridges) await scheduler.loadCartridge(rows);
  context.failures.add(1);
  context.failingRebuilds = Number.POSITIVE_INFINITY;
  const plan = { ...simple, cartridges: [1] };
  const failed = new PlannedWork(plan, cartridges);
  scheduler.submit(failed);
  expect(await failed.done).toMatchObject({ code: 'ENGINE_FAILURE' });
  await scheduler.whenIdle();
  await scheduler.unloadCartridge(cartridges[0]!);
  expect(await scheduler.evictCartridge(cartridges[1]!)).toBe(false);
  await scheduler.whenIdle();
  expect(scheduler.failure).toMatchObject({ code: 'ENGINE_DOWN' });
  expect(scheduler.usage).toMatchObject({ cartridgeCells: 3, freeCells: 97 });
  context.failingRebuilds = 0;
  const later = new PlannedWork(plan, cartridges);
  scheduler.submit(later);
  expect(await later.done).toBe('finished');
  expect(later.generated).toEqual(expectedTokens(plan, cartridges));
  await scheduler.unloadCartridge(cartridges[1]!);
  await scheduler.whenIdle();
  expect(context.cache).toHaveLength(retainTurns ? scheduler.usage.cachedTurnCells : 0);
  expect(context.violations).toEqual([]);
});

it('rejects what fails between two decodes, alone, and goes on', async () => {
  const context = new StrictContext(100, 8, 4);
  const scheduler = new Scheduler(context, { sequences: 8, runs: 2, sequenceTokens: 100 });
  const rows = cartridge(0, 5);
  await scheduler.loadCartridge(rows);
  vi.spyOn(context, 'remove').mockImplementationOnce(() => {
    throw new Error('the rows could not be removed');
  });
  const [unloaded, released] = [scheduler.unloadCartridge(rows), scheduler.whenReleased(rows)];
  await expect(unloaded).rejects.toMatchObject({ code: 'INTERNAL', message: 'the rows could not be removed' });
  await released;
  const work = new PlannedWork(simple, []);
  scheduler.submit(work);
  expect(await work.done).toBe('finished');
  await scheduler.whenIdle();
  expect(scheduler.freeCells).toBe(100);
});

it.each([false, true])('loads the rows of one cartridge for another one with the same (turns kept: %s)', async (retainTurns) => {
  const scheduler = new Scheduler(new StrictContext(100, 8, 4), { sequences: 8, runs: 2, sequenceTokens: 100, retainTurns });
  const good = { ...cartridge(0, 5), read: async () => {} };
  const damaged = {
    ...good,
    stateBlob: () => {
      throw new Error('the rows are damaged');
    },
  };
  const plan = { ...simple, cartridges: [0] };
  const ask = (rows: CartridgeRows) => {
    const work = new PlannedWork(plan, [rows]);
    scheduler.submit(work);
    return work.done;
  };
  expect(await ask(damaged)).toMatchObject({ message: 'the rows are damaged' });
  expect(scheduler.usage).toMatchObject({ freeCells: 100, residentCartridges: 0 });
  expect(await ask(good)).toBe('finished');
});

it('forms the same batches from the same requests where turns are kept', async () => {
  const run = async (planned: readonly Plan[], size: Size) => {
    const context = new StrictContext(size.cells, size.batchRows, size.runs);
    const scheduler = new Scheduler(context, { ...size, sequenceTokens: size.cells, retainTurns: true });
    const cartridges = [cartridge(0, 5), cartridge(1, 3)];
    for (const rows of cartridges) await scheduler.loadCartridge(rows);
    const works = planned.map((plan, index) => new PlannedWork({ ...plan, scope: 'ab'[index % 2]! }, cartridges));
    for (const work of works) scheduler.submit(work);
    await scheduler.whenIdle();
    expect(context.violations).toEqual([]);
    return context.batches;
  };
  await fc.assert(
    fc.asyncProperty(plans, sizes, async (planned, size) => {
      const first = await run(planned, size);
      expect(await run(planned, size)).toEqual(first);
    }),
    { numRuns: 30 },
  );
});
