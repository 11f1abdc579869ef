import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, describe, expect, it } from 'vitest';
import { CartridgesError } from './errors.js';
import { FileLock, type LockOptions, withFileLock } from './file-lock.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-lock-'));
afterAll(() => rmSync(folder, { recursive: true }));

const options = (waitMs: number): LockOptions => ({
  waitMs,
  refuse: (owner) => new CartridgesError('INVALID_INPUT', `taken by ${owner?.pid ?? 'nobody'}`),
});

/** The id of a process that was there and is not any more. */
async function endedProcess(): Promise<number> {
  const child = spawn(process.execPath, ['--eval', '']);
  await once(child, 'close');
  return child.pid!;
}

it('is held by one at a time, and leaves nothing behind', async () => {
  const path = join(folder, 'new', 'counter.lock');
  let [inside, most, done] = [0, 0, 0];
  const work = async () => {
    most = Math.max(most, ++inside);
    await sleep(1);
    inside--;
    done++;
  };
  await Promise.all(Array.from({ length: 20 }, () => withFileLock(path, options(20_000), work)));
  expect([most, done]).toEqual([1, 20]);
  expect(await readdir(join(folder, 'new'))).toEqual([]);
});

it('is given back when the work fails', async () => {
  const path = join(folder, 'failed.lock');
  await expect(withFileLock(path, options(0), () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  await withFileLock(path, options(0), async () => {});
});

it('is refused while somebody has it, after the time to wait, with the process that has it', async () => {
  const path = join(folder, 'taken.lock');
  const lock = await FileLock.take(path, options(0));
  await expect(FileLock.take(path, options(0))).rejects.toThrow(`taken by ${process.pid}`);
  const start = performance.now();
  await expect(FileLock.take(path, options(60))).rejects.toThrow('taken');
  expect(performance.now() - start).toBeGreaterThanOrEqual(55);
  const waiting = FileLock.take(path, options(10_000));
  await lock.release();
  await lock.release();
  await (await waiting).release();
});

describe('a lock that was left behind', () => {
  const lefts: [string, () => Promise<string>][] = [
    ['by a process that has ended', async () => `${await endedProcess()} another-boot 1\n`],
    ['by one of which only the id is known', async () => `${await endedProcess()}\n`],
    ['by one whose id another process has now', async () => `${process.pid} another-boot 1\n`],
  ];
  // Without /proc nobody knows when a process started.
  it.each(process.platform === 'linux' ? lefts : lefts.slice(0, 2))('%s is taken over by one of many', async (_, owner) => {
    const path = join(folder, 'left.lock');
    await writeFile(path, await owner());
    const taken = await Promise.allSettled(Array.from({ length: 12 }, () => FileLock.take(path, options(0))));
    const locks = taken.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    expect(locks).toHaveLength(1);
    expect(await readFile(path, 'utf8')).toMatch(new RegExp(`^${process.pid}\\b`));
    await locks[0]!.release();
    expect((await readdir(folder)).filter((name) => name.startsWith('left'))).toEqual([]);
  });

  it('before its owner was written is taken over when it is old, and respected when it is new', async () => {
    const path = join(folder, 'empty.lock');
    await writeFile(path, '');
    await expect(FileLock.take(path, options(30))).rejects.toThrow('taken by nobody');
    await utimes(path, new Date(0), new Date(0));
    await (await FileLock.take(path, options(0))).release();
  });

  it('by one that was killed while it took over is taken over too', async () => {
    const path = join(folder, 'twice.lock');
    const owner = `${await endedProcess()}\n`;
    await writeFile(path, owner);
    await writeFile(`${path}.takeover`, owner);
    await (await FileLock.take(path, options(0))).release();
    expect((await readdir(folder)).filter((name) => name.startsWith('twice'))).toEqual([]);
  });
});

it('says which path cannot be used', async () => {
  await writeFile(join(folder, 'file'), '');
  await expect(FileLock.take(join(folder, 'file', 'a.lock'), options(0))).rejects.toMatchObject({ code: 'INVALID_INPUT' });
});
