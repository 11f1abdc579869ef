import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { keep, keptOr, readKept } from './json-cache.js';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cartridges-cache-'));
  path = join(folder, 'cache.json');
});
afterEach(() => rmSync(folder, { recursive: true }));

it('measures once for each key', async () => {
  const measure = vi.fn(async () => ({ speed: 1 }));
  expect(await keptOr(path, 'a', measure)).toEqual({ speed: 1 });
  expect(await keptOr(path, 'a', measure)).toEqual({ speed: 1 });
  expect(await keptOr(path, 'b', measure)).toEqual({ speed: 1 });
  expect(measure).toHaveBeenCalledTimes(2);
  expect(await keptOr(undefined, 'a', measure)).toEqual({ speed: 1 });
  expect(measure).toHaveBeenCalledTimes(3);
});

it('uses what was measured when it cannot be kept', async () => {
  const measure = vi.fn(async () => ({ speed: 1 }));
  const unwritable = join(path, 'cache.json');
  writeFileSync(path, '');
  expect(await keptOr(unwritable, 'a', measure)).toEqual({ speed: 1 });
  expect(await keptOr(unwritable, 'a', measure)).toEqual({ speed: 1 });
  expect(measure).toHaveBeenCalledTimes(2);
  await expect(keep(unwritable, 'a', 1)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
});

it.each(['{"a"', '', 'null', '[1]', '"a"'])('takes a file with %j for an empty one', async (content) => {
  writeFileSync(path, content);
  expect(await readKept(path, 'a')).toBeUndefined();
  await keep(path, 'a', 1);
  await keep(path, 'b', 2);
  expect([await readKept(path, 'a'), await readKept(path, 'b')]).toEqual([1, 2]);
});
