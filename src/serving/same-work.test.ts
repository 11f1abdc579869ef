import { createHook } from 'node:async_hooks';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { removeFolder, requestLines, TestApi, temporaryFolder } from '../../test/support/batch-fixture.js';
import { callerOf } from '../../test/support/library-fixture.js';
import type { Caller } from './caller.js';
import { LibraryEntries, type LibraryEntry } from './cartridges/library-entries.js';

/**
 * What exists and is foreign, and what does not exist, must be refused after the same work: then no clock tells one from the
 * other. Work is counted, since clocks of tests are coarse: look-ups in maps and sets, and every asynchronous step, those of the
 * file system included.
 */
async function workOf(work: () => unknown): Promise<Record<string, number>> {
  // The runner of the tests takes steps of its own now and then.
  const runs: Record<string, number>[] = [];
  for (let run = 0; run < 5; run++) runs.push(await countOnce(work));
  const names = new Set(runs.flatMap((counts) => Object.keys(counts)));
  return Object.fromEntries([...names].sort().map((name) => [name, Math.min(...runs.map((counts) => counts[name] ?? 0))]));
}

async function countOnce(work: () => unknown): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const count = (name: string) => {
    counts[name] = (counts[name] ?? 0) + 1;
  };
  const originals = { get: Map.prototype.get, has: Map.prototype.has, setHas: Set.prototype.has };
  const hook = createHook({ init: (_id, type) => count(type) });
  Map.prototype.get = function (key) {
    count('Map.get');
    return originals.get.call(this, key);
  };
  Map.prototype.has = function (key) {
    count('Map.has');
    return originals.has.call(this, key);
  };
  Set.prototype.has = function (value) {
    count('Set.has');
    return originals.setHas.call(this, value);
  };
  hook.enable();
  try {
    await work();
  } finally {
    hook.disable();
    Map.prototype.get = originals.get;
    Map.prototype.has = originals.has;
    Set.prototype.has = originals.setHas;
  }
  return counts;
}

it('counts what is done', async () => {
  const two = await workOf(async () => new Map([[1, 2]]).get(await Promise.resolve(1)));
  expect(two['Map.get']).toBe(1);
  expect(two['PROMISE']).toBeGreaterThan(0);
  expect(await workOf(() => new Map().get(1))).not.toEqual(two);
});

describe('files and batches', () => {
  let folder: string;
  let api: TestApi;
  const missing = { file: `file-${'0'.repeat(32)}`, batch: `batch_${'0'.repeat(32)}` };
  const foreign = { file: '', batch: '' };
  beforeAll(async () => {
    folder = await temporaryFolder();
    api = await TestApi.open({ folder });
    // Both have something, so that neither is told by having nothing.
    for (const scope of ['alice', 'bob']) {
      foreign.batch = await api.startBatch(requestLines(2), { scope });
      foreign.file = (await api.untilStatus(foreign.batch, ['completed'], scope)).input_file_id;
    }
  });
  afterAll(async () => {
    await api.close();
    await removeFolder(folder);
  });

  it.each<[string, string, 'file' | 'batch']>([
    ['GET', '/v1/files/ID', 'file'],
    ['GET', '/v1/files/ID/content', 'file'],
    ['DELETE', '/v1/files/ID', 'file'],
    ['GET', '/v1/files?after=ID', 'file'],
    ['POST', '/v1/batches', 'file'],
    ['GET', '/v1/batches/ID', 'batch'],
    ['POST', '/v1/batches/ID/cancel', 'batch'],
    ['GET', '/v1/batches?after=ID', 'batch'],
  ])('%s %s', async (method, path, kind) => {
    const ask = async (id: string) => {
      const order = { input_file_id: id, endpoint: '/v1/chat/completions', completion_window: '24h' };
      const { status } = await api.call(method, path.replace('ID', id), path === '/v1/batches' ? { json: order } : {});
      expect(status).toBe(404);
    };
    // What is made with the first request of a route is no matter of the id.
    for (const ids of [foreign, missing]) await ask(ids[kind]);
    expect(await workOf(() => ask(foreign[kind]))).toEqual(await workOf(() => ask(missing[kind])));
  });
});

/** A library in memory: entries with nothing behind them. */
function libraryOf(ids: readonly string[], aliases: Record<string, string>): LibraryEntries {
  const entries = new LibraryEntries(new Map(Object.entries(aliases)));
  for (const id of ids) entries.set({ id } as LibraryEntry);
  return entries;
}

describe('cartridges', () => {
  const many = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`nurse-${index}`, 'clinic']));
  const library = libraryOf(['clinic', 'harbour', 'ports'], { ...many, quay: 'harbour' });
  const callers: [string, Caller][] = [
    ['a key without cartridges', callerOf('ana', [])],
    ['a key with some', callerOf('ana', ['harbour', 'gone'])],
    ['a key with an alias', callerOf('ana', ['quay'])],
  ];

  it.each(callers)('%s may not use a foreign one, its alias, or none after the same work', async (_, caller) => {
    const works = [];
    for (const name of ['clinic', 'ports', 'nurse-7', 'nobody']) {
      expect(library.mayUse(caller, name)).toBe(false);
      works.push(await workOf(() => library.mayUse(caller, name)));
    }
    for (const work of works) expect(work).toEqual(works[0]);
  });

  it('may use what a name of its own stands for, by any name', () => {
    const may = (names: string[], name: string) => library.mayUse(callerOf('ana', names), name);
    expect([may(['quay'], 'harbour'), may(['quay'], 'quay'), may(['harbour'], 'quay')]).toEqual([true, true, true]);
    expect([may(['nurse-1'], 'nurse-2'), may(['nurse-1'], 'harbour'), may(['nobody'], 'nobody')]).toEqual([true, false, true]);
  });

  it('sees a change of an alias', () => {
    const changing = libraryOf(['a', 'b'], { now: 'a' });
    const caller = callerOf('ana', ['now']);
    expect([changing.mayUse(caller, 'a'), changing.mayUse(caller, 'b')]).toEqual([true, false]);
    changing.setAlias('now', 'b');
    expect([changing.mayUse(caller, 'a'), changing.mayUse(caller, 'b')]).toEqual([false, true]);
    changing.deleteAlias('now');
    expect([changing.mayUse(caller, 'a'), changing.mayUse(caller, 'b')]).toEqual([false, false]);
  });
});
