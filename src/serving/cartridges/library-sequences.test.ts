import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, expect, it } from 'vitest';
import {
  ADMIN,
  BookkeepingEngine,
  fileBytes,
  POCKET,
  pocketCartridge,
  refer,
  streamOf,
  temporaryFolder,
} from '../../../test/support/library-fixture.js';
import { CartridgesError } from '../../core/errors.js';
import { sha256 } from '../../core/hashing.js';
import type { HeldCartridges } from './cartridge-library.js';
import { openCartridgeLibrary, type ServedCartridges } from './open-cartridge-library.js';

/** Operations on few names and few contents, so that they get in each other's way. */
const name = fc.constantFrom('a', 'b', 'org/c');
const alias = fc.constantFrom('x', 'y');
const operation = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('upload' as const), name, content: fc.integer({ min: 0, max: 2 }) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('hold' as const), name: fc.oneof(name, alias) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('release' as const), index: fc.nat(20) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('read' as const), index: fc.nat(20) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom('remove' as const, 'reload' as const, 'load' as const, 'unload' as const),
      name,
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('alias' as const), name, alias }) },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

let contents: Buffer[];
/** The first number of each content, by its hash. */
let firstKeys: Map<string, number>;

beforeAll(async () => {
  const cartridges = [1, 2, 3].map((seed) => pocketCartridge(seed));
  contents = await Promise.all(cartridges.map(fileBytes));
  firstKeys = new Map(contents.map((bytes, index) => [sha256(bytes), cartridges[index]!.keys[0]![0]!]));
});

/** Requests as they come and go while administrators work. */
class Traffic {
  readonly held: HeldCartridges[] = [];
  readonly engine: BookkeepingEngine;
  readonly library: ServedCartridges;
  readonly #reading = new Set<HeldCartridges>();

  constructor(engine: BookkeepingEngine, library: ServedCartridges) {
    this.engine = engine;
    this.library = library;
  }

  async run(step: Operation): Promise<void> {
    try {
      await this.#apply(step);
    } catch (error) {
      // A refusal is an answer; everything else is a mistake of the library.
      if (!CartridgesError.is(error) || !('status' in error)) throw error;
    }
    this.check();
  }

  check(): void {
    expect(this.engine.mistakes).toEqual([]);
    for (const { handles } of this.held) for (const handle of handles) expect(this.engine.known.has(handle)).toBe(true);
  }

  release(index: number): void {
    const [held] = this.held.splice(index % Math.max(1, this.held.length), 1);
    const others = [...this.held, ...this.#reading].flatMap(({ handles }) => handles);
    for (const handle of held?.handles ?? []) if (!others.includes(handle)) this.engine.inUse.delete(handle);
    held?.release();
  }

  /** Reads all that is held from disk, whatever was evicted, replaced or removed. */
  async readAll(): Promise<void> {
    this.engine.resident.clear();
    for (let count = this.held.length; count > 0; count--) await this.#read(0);
  }

  async #apply(step: Operation): Promise<unknown> {
    const { library } = this;
    if (step.kind === 'hold') return this.#hold(step.name);
    if (step.kind === 'release') return this.release(step.index);
    if (step.kind === 'read') return this.#read(step.index);
    if (step.kind === 'alias') return library.setAlias(step.alias, step.name);
    if (step.kind === 'remove') return library.remove(step.name);
    if (step.kind === 'reload') return library.reload(step.name);
    if (step.kind === 'load') return library.load(step.name);
    if (step.kind === 'unload') return library.unload(step.name);
    if (!('content' in step)) throw new Error(`no operation ${step.kind}`);
    return library.upload({ id: step.name, stream: streamOf(contents[step.content]!), replace: true }, ADMIN);
  }

  async #hold(id: string): Promise<void> {
    const held = await this.library.hold([refer(id)], ADMIN);
    for (const handle of held.handles) this.engine.inUse.add(handle);
    this.held.push(held);
  }

  /** What a request reads is the content that it holds, whatever its name stands for by now. It does not end meanwhile. */
  async #read(index: number): Promise<void> {
    const [held] = this.held.splice(index % Math.max(1, this.held.length), 1);
    if (!held) return;
    this.#reading.add(held);
    const [handle] = held.handles;
    expect(await this.engine.firstKey(handle)).toBe(firstKeys.get(handle!.key));
    this.#reading.delete(held);
    this.held.push(held);
  }
}

it('removes no content that is held, and every one in the end, whatever happens at once', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(operation, { minLength: 1, maxLength: 4 }), { maxLength: 10 }), async (rounds) => {
      const temporary = await temporaryFolder();
      const engine = new BookkeepingEngine();
      const library = await openCartridgeLibrary({ folder: join(temporary.path, 'l'), engine, session: POCKET });
      const traffic = new Traffic(engine, library);
      for (const round of rounds) await Promise.all(round.map((step) => traffic.run(step)));
      await traffic.readAll();
      while (traffic.held.length > 0) traffic.release(0);
      traffic.check();
      await library.close();
      expect(engine.known.size).toBe(new Set(library.all().map(({ sha256 }) => sha256)).size);
      for (const { id } of library.all()) await library.remove(id);
      await library.close();
      expect(engine.known.size).toBe(0);
      expect(engine.mistakes).toEqual([]);
      expect((await readdir(join(temporary.path, 'l'))).filter((entry) => !/^(\.incoming|aliases\.json)$/.test(entry))).toEqual(
        [],
      );
      await temporary.remove();
    }),
    { numRuns: 25 },
  );
});
