import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { hash, ruledBy, StrictContext } from '../../test/support/strict-context.js';
import type { CartridgesError } from '../core/errors.js';
import { Random } from '../core/random.js';
import { commonLength } from './common-length.js';
import { Scheduler } from './scheduler.js';
import { type CartridgeRows, FINISHED, type RuledTokens, type SequenceWork } from './sequence-work.js';

const OPERATIONS = 12_000;
const OPERATIONS_PER_RUN = 400;
const SCOPES = ['', 'ada', 'bob'];
const CARTRIDGE_SIZES = [5, 3, 9, 4];

/** A cartridge whose reading takes some ticks and may fail. */
class SlowCartridge implements CartridgeRows {
  readonly key: string;
  readonly tokenCount: number;
  readonly #id: number;
  readonly #random: Random;
  #isRead = false;

  constructor(id: number, random: Random) {
    this.key = `sha-${id}`;
    this.tokenCount = CARTRIDGE_SIZES[id]!;
    this.#id = id;
    this.#random = random;
  }

  async read(): Promise<void> {
    for (let ticks = this.#random.integer(6); ticks > 0; ticks--) await setImmediate();
    if (this.#random.integer(12) === 0) throw new Error('the file could not be read');
    this.#isRead = true;
  }

  forget(): void {
    this.#isRead = false;
  }

  stateBlob(first: number): Uint8Array {
    if (!this.#isRead) throw new Error('the rows were not read');
    return Uint8Array.of(first, this.#id, this.tokenCount);
  }

  get tokens(): number[] {
    return Array.from({ length: this.tokenCount }, (_, row) => 1000 + this.#id * 50 + row);
  }
}

let beginnings = 0;

class Request implements SequenceWork {
  readonly tokens: Int32Array;
  readonly firstLogitsRow: number;
  readonly newRows: number;
  readonly sharedTokens = 0;
  readonly scope: string;
  readonly cartridges: readonly SlowCartridge[];
  readonly length: number;
  readonly generated: number[] = [];
  cachedTokens = 0;
  /** Its place in the order in which they begin; one whose cartridge is not read yet lets others of its scope go first. */
  beginning = Number.POSITIVE_INFINITY;
  wrongRows = 0;
  cancelled = false;
  outcome: 'finished' | CartridgesError | undefined;
  readonly ruled: RuledTokens | undefined;

  /** @param length  Of the answer; it may take up to `mostTokens`, as far as others know. */
  constructor(
    scope: string,
    cartridges: readonly SlowCartridge[],
    tokens: Int32Array,
    { length, mostTokens, byRule }: { length: number; mostTokens: number; byRule: boolean },
  ) {
    this.length = length;
    if (byRule) this.ruled = ruledBy((logits) => this.consume(logits));
    this.scope = scope;
    this.cartridges = cartridges;
    this.tokens = tokens;
    this.firstLogitsRow = tokens.length - 1;
    this.newRows = mostTokens - 1;
  }

  /** Rows of these tokens may be in the cache now or later. */
  get known(): Int32Array {
    return Int32Array.of(...this.tokens, ...this.generated);
  }

  get origin(): string {
    return [this.scope, ...this.cartridges.map(({ key }) => key)].join(' ');
  }

  begin(cachedTokens: number): void {
    this.cachedTokens = cachedTokens;
    this.beginning = beginnings++;
  }

  consume(logits: Float32Array): number {
    const before = [...this.cartridges.flatMap(({ tokens }) => tokens), ...this.known];
    if (logits[0] !== hash(before)) this.wrongRows++;
    this.generated.push(logits[0]!);
    if (this.generated.length < this.length) return logits[0]!;
    this.outcome = 'finished';
    return FINISHED;
  }

  fail(error: CartridgesError): void {
    expect(this.outcome).toBeUndefined();
    this.outcome = error;
  }
}

const NO_COUNTS = {
  finished: 0,
  cancelled: 0,
  failed: 0,
  unread: 0,
  reused: 0,
  dropped: 0,
  copiedBack: 0,
  lostCopies: 0,
  /** Decodes that were asked for before the one in front of them was over, and made or withdrawn. */
  ahead: 0,
  withdrawn: 0,
};

class World {
  readonly random: Random;
  readonly context: StrictContext;
  readonly scheduler: Scheduler;
  readonly requests: Request[] = [];
  readonly cartridges: SlowCartridge[];
  readonly storedTurnBytes: number;
  readonly pinned: CartridgeRows = { key: 'pinned', tokenCount: 6, stateBlob: (first) => Uint8Array.of(first, 9, 6) };
  isPinned = false;
  counts = { ...NO_COUNTS };

  constructor(seed: number) {
    this.random = new Random(seed);
    const cells = 90 + this.random.integer(200);
    const batchRows = 5 + this.random.integer(20);
    const runs = 1 + this.random.integer(5);
    this.context = new StrictContext(cells, batchRows, runs);
    this.context.decodeMs = [60, 15, 4][this.random.integer(3)]!;
    if (this.random.integer(2) === 0) this.context.copiesForOneFailure = 3 + this.random.integer(9);
    this.storedTurnBytes = [0, 400, 4000, 40_000][this.random.integer(4)]!;
    const kept = { keptTurnCells: this.random.integer(cells), storedTurnBytes: this.storedTurnBytes };
    const limits = { sequences: 9 + this.random.integer(8), runs, sequenceTokens: cells, retainTurns: true, ...kept };
    this.scheduler = new Scheduler(this.context, limits);
    this.cartridges = CARTRIDGE_SIZES.map((_, id) => new SlowCartridge(id, this.random.fork(`cartridge ${id}`)));
  }

  async operate(): Promise<void> {
    const draw = this.random.integer(100);
    if (draw < 55) this.submit();
    else if (draw < 70) this.cancel();
    else if (draw < 74) this.context.failures.add(this.context.batches.length + 1 + this.random.integer(4));
    else if (draw < 75) this.context.failingRebuilds++;
    else if (draw < 81) this.preload();
    else if (draw < 87) this.evict();
    else if (draw < 91) this.replace();
    else if (draw < 94) await this.pinOrUnpin();
    else if (draw < 96) await this.scheduler.whenIdle();
    for (let ticks = 1 + this.random.integer(3); ticks > 0; ticks--) await setImmediate();
  }

  submit(): void {
    const { random } = this;
    const scope = SCOPES[random.integer(SCOPES.length)]!;
    const ids = [[], [], [0], [0], [1], [0, 1], [1, 0], [2], [3, 3]][random.integer(9)]!;
    const cartridges = ids.map((id) => this.cartridges[id]!);
    const length = 1 + random.integer(6);
    const answer = { length, mostTokens: length + random.integer(3), byRule: random.integer(4) > 0 };
    const request = new Request(scope, cartridges, this.prompt(scope, cartridges), answer);
    try {
      this.scheduler.submit(request);
      this.requests.push(request);
    } catch (error) {
      expect(error).toMatchObject({ code: 'CONTEXT_OVERFLOW' });
    }
  }

  /** Goes on from what some earlier request has read or said, whoever sent it, or begins as many do. */
  prompt(scope: string, cartridges: readonly SlowCartridge[]): Int32Array {
    const { random } = this;
    const alike = this.requests.filter((each) => each.scope === scope && each.cartridges[0] === cartridges[0]);
    const pool = random.integer(4) === 0 ? this.requests : alike;
    const earlier = random.integer(3) > 0 ? pool[pool.length - 1 - random.integer(Math.min(6, pool.length || 1))] : undefined;
    const family = Array.from({ length: random.integer(40) }, (_, index) => 100 * random.integer(1) + index);
    const known = earlier ? [...earlier.known].slice(0, 1 + random.integer(60)) : family;
    // None at times: then all but one row may be there.
    const own = Array.from({ length: known.length > 0 ? random.integer(8) : 1 }, () => random.integer(3));
    return Int32Array.of(...known, ...own);
  }

  cancel(): void {
    const open = this.requests.filter(({ outcome }) => outcome === undefined);
    const request = open[this.random.integer(open.length || 1)];
    if (!request) return;
    request.cancelled = true;
    this.scheduler.wake();
  }

  preload(): void {
    const cartridge = this.cartridges[this.random.integer(4)]!;
    const expected = ['CONTEXT_OVERFLOW', 'CANCELLED', 'ENGINE_DOWN', 'INTERNAL'];
    this.scheduler.preloadCartridge(cartridge).catch(({ code }) => expect(expected).toContain(code));
  }

  evict(): void {
    const cartridge = this.cartridges[this.random.integer(4)]!;
    this.scheduler.evictCartridge(cartridge).then((isDropped) => {
      this.counts.dropped += Number(isDropped);
    });
  }

  /** Removes a cartridge and adds it again. */
  replace(): void {
    const id = this.random.integer(4);
    const old = this.cartridges[id]!;
    this.cartridges[id] = new SlowCartridge(id, this.random.fork('again'));
    this.scheduler.whenReleased(old).then(() => this.scheduler.evictCartridge(old));
  }

  async pinOrUnpin(): Promise<void> {
    if (this.isPinned) await this.scheduler.unloadCartridge(this.pinned);
    this.isPinned = !this.isPinned && (await this.pin());
  }

  async pin(): Promise<boolean> {
    try {
      await this.scheduler.loadCartridge(this.pinned);
      return true;
    } catch (error) {
      expect(error).toMatchObject({ code: expect.stringMatching('CONTEXT_OVERFLOW|ENGINE_DOWN|INTERNAL') });
      return false;
    }
  }

  check(): void {
    const { cells, cache, violations } = this.context;
    const { freeCells, requestCells, cartridgeCells, cachedTurnCells, storedTurnBytes, waiting, running } = this.scheduler.usage;
    const parts = [freeCells, requestCells, cartridgeCells, cachedTurnCells];
    const open = this.requests.filter(({ outcome }) => outcome === undefined).length;
    const holds =
      parts.reduce((sum, part) => sum + part) === cells &&
      parts.every((part) => part >= 0) &&
      cache.length <= cells - freeCells &&
      storedTurnBytes <= this.storedTurnBytes &&
      waiting + running === open &&
      violations.length === 0;
    // One call of `expect` for each of many thousand checks would take most of the time.
    if (!holds) expect({ cells, parts, occupied: cache.length, waiting, running, open, violations }).toBe('consistent');
  }

  /** When nothing runs, what is counted is what is there. */
  checkIdle(): void {
    this.check();
    const { freeCells, requestCells } = this.scheduler.usage;
    expect(requestCells).toBe(0);
    this.counts.copiedBack += this.context.copies.back;
    this.counts.lostCopies += this.context.copies.failed;
    this.counts.ahead += this.context.ahead.made;
    this.counts.withdrawn += this.context.ahead.withdrawn;
    expect(this.scheduler.usage.lostTurns).toBe(this.context.copies.failed);
    expect(this.context.cache.length).toBe(this.context.cells - freeCells);
  }

  /** No request has more rows from others than those of its own scope and cartridges that began earlier have in common with it. */
  checkShares(): void {
    const knownByOrigin = new Map<string, Int32Array[]>();
    const begun = this.requests.filter(({ beginning }) => beginning < beginnings).sort((a, b) => a.beginning - b.beginning);
    for (const { origin, tokens, known, cachedTokens, firstLogitsRow } of begun) {
      const earlier = knownByOrigin.get(origin) ?? [];
      const most = earlier.reduce((length, each) => Math.max(length, commonLength(each, tokens)), 0);
      expect(cachedTokens).toBeLessThanOrEqual(Math.min(most, firstLogitsRow));
      knownByOrigin.set(origin, [...earlier, known]);
    }
  }

  checkOutcomes(): void {
    for (const { outcome, cancelled, cachedTokens, generated, length, wrongRows } of this.requests) {
      expect(wrongRows).toBe(0);
      if (cachedTokens > 0) this.counts.reused++;
      if (outcome === 'finished') {
        this.counts.finished++;
        expect(generated).toHaveLength(length);
      } else if (outcome?.code === 'CANCELLED') {
        this.counts.cancelled++;
        expect(cancelled).toBe(true);
      } else if (outcome?.code === 'ENGINE_FAILURE') this.counts.failed++;
      else {
        this.counts.unread++;
        expect(outcome?.message).toMatch(/could not be read|no memory for a context|left no room/);
      }
    }
  }
}

it('keeps all books through thousands of random operations', async () => {
  const total = { ...NO_COUNTS };
  for (let seed = 1; seed <= OPERATIONS / OPERATIONS_PER_RUN; seed++) {
    const world = new World(seed);
    for (let operation = 0; operation < OPERATIONS_PER_RUN; operation++) {
      await world.operate();
      world.check();
    }
    world.context.failingRebuilds = 0;
    world.context.failures.clear();
    await world.scheduler.whenIdle();
    // An engine that could not be built anew is built at the next request.
    world.submit();
    await world.scheduler.whenIdle();
    world.checkIdle();
    world.checkShares();
    world.checkOutcomes();
    for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += world.counts[key];
    await world.scheduler.close();
    expect(world.context.heldCopies.size).toBe(0);
  }
  expect(Math.min(...Object.values(total))).toBeGreaterThan(100);
});
