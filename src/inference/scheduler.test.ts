import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { CartridgesError } from '../core/errors.js';
import { Scheduler } from './scheduler.js';
import type { SequenceContext } from './sequence-context.js';
import { type CartridgeRows, FINISHED, type SequenceWork } from './sequence-work.js';

interface Cell {
  token: number;
  position: number;
  sequences: Set<number>;
}

/**
 * A cache in TypeScript that is as strict as libllama, or stricter: no overflow, positions without gaps, no call during a
 * decode. The logits behind a row are a hash of all that the row attends to, so that a wrong share shows.
 */
class StrictContext implements SequenceContext {
  readonly cells: number;
  readonly batchRows: number;
  readonly logitsRows: number;
  readonly batches: string[] = [];
  readonly failures = new Set<number>();
  /** What libllama would have refused, or died of. */
  readonly violations: string[] = [];
  cache: Cell[] = [];
  #rows: { token: number; position: number; sequence: number; wantsLogits: boolean }[] = [];
  #logits: (Float32Array | undefined)[] = [];
  #decoding = false;

  constructor(cells: number, batchRows: number, logitsRows: number) {
    this.cells = cells;
    this.batchRows = batchRows;
    this.logitsRows = logitsRows;
  }

  addRow(token: number, position: number, sequence: number, wantsLogits: boolean): void {
    this.#assertQuiet();
    this.#rows.push({ token, position, sequence, wantsLogits });
  }

  async decode(): Promise<void> {
    this.#assertQuiet();
    const rows = this.#rows.splice(0);
    this.#require(rows.length > 0, 'an empty batch');
    this.#require(rows.length <= this.batchRows, 'a batch with too many rows');
    this.#require(rows.filter((row) => row.wantsLogits).length <= this.logitsRows, 'too many rows with logits');
    this.batches.push(rows.map((row) => `${row.sequence}:${row.position}:${row.token}`).join(' '));
    this.#decoding = true;
    await new Promise((resolve) => setImmediate(resolve));
    this.#decoding = false;
    if (this.failures.has(this.batches.length)) throw new Error('the decode failed');
    this.#logits = rows.map((row) => {
      this.#require(row.position === this.#attended(row.sequence).length, 'a gap in a sequence');
      this.#store({ token: row.token, position: row.position, sequences: new Set([row.sequence]) });
      return row.wantsLogits ? Float32Array.of(hash(this.#attended(row.sequence))) : undefined;
    });
  }

  logits(row: number): Float32Array {
    const logits = this.#logits[row];
    if (!logits) throw new Error(`row ${row} did not ask for logits`);
    return logits;
  }

  share(from: number, to: number, end: number): void {
    this.#assertQuiet();
    for (const cell of this.cache) if (cell.sequences.has(from) && cell.position < end) cell.sequences.add(to);
  }

  remove(sequence: number): void {
    this.#assertQuiet();
    for (const cell of this.cache) cell.sequences.delete(sequence);
    this.cache = this.cache.filter((cell) => cell.sequences.size > 0);
  }

  async load(sequence: number, blob: Uint8Array): Promise<void> {
    this.#assertQuiet();
    const [firstPosition, token, count] = blob as unknown as [number, number, number];
    if (token === 255) throw new Error('the blob was refused');
    for (let row = 0; row < count; row++) {
      this.#store({ token: 1000 + token * 50 + row, position: firstPosition + row, sequences: new Set([sequence]) });
    }
  }

  clear(): void {
    this.#assertQuiet();
    this.cache = [];
  }

  #store(cell: Cell): void {
    this.cache.push(cell);
    this.#require(this.cache.length <= this.cells, 'more cells than there are');
  }

  #attended(sequence: number): number[] {
    const cells = this.cache.filter((cell) => cell.sequences.has(sequence));
    return cells.sort((a, b) => a.position - b.position).map((cell) => cell.token);
  }

  #assertQuiet(): void {
    this.#require(!this.#decoding, 'a call during a decode');
  }

  #require(condition: boolean, violation: string): void {
    if (!condition) this.violations.push(violation);
  }
}

function hash(tokens: readonly number[]): number {
  return tokens.reduce((sum, token) => (Math.imul(sum, 31) + token) & 0xffff, 7);
}

function cartridge(id: number, tokenCount: number): CartridgeRows {
  return { key: `c${id}`, tokenCount, stateBlob: (first) => Uint8Array.of(first, id, tokenCount) };
}

interface Plan {
  prefix: number;
  prefixTokens: number;
  ownTokens: number;
  newTokens: number;
  cartridges: number[];
  cancelAfter?: number;
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
  readonly cartridges: readonly CartridgeRows[];
  readonly generated: number[] = [];
  readonly done: Promise<'finished' | CartridgesError>;
  cachedTokens = 0;
  cancelled = false;
  #plan: Plan;
  #settle!: (outcome: 'finished' | CartridgesError) => void;

  constructor(plan: Plan, cartridges: readonly CartridgeRows[]) {
    this.#plan = plan;
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
