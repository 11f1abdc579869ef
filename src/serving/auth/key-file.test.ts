import { mkdtempSync, rmSync } from 'node:fs';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { runCommand } from '../../../test/support/command-line.js';
import { sha256 } from '../../core/hashing.js';
import { packageRoot } from '../../core/package.js';
import type { KeyGrant } from './api-key.js';
import { addKey, readKeyFile, revokeKey } from './key-file.js';

const TSX = join(dirname(createRequire(import.meta.url).resolve('tsx/package.json')), 'dist', 'cli.mjs');
const ADD_KEYS_CHILD = join(packageRoot, 'test', 'support', 'add-keys-child.ts');

const folder = mkdtempSync(join(tmpdir(), 'cartridges-keys-'));
afterAll(() => rmSync(folder, { recursive: true }));

const grant: KeyGrant = { name: 'ana', cartridges: ['notes'], admin: false, limits: {}, expiresAt: null };

test('a file keeps the hash of a key and not the key, for its owner alone', async () => {
  const path = join(folder, 'new', 'keys.json');
  const { secret, entry } = await addKey(path, grant);
  expect(secret).toMatch(/^ck_[\w-]{43}$/);
  expect(entry.sha256).toBe(sha256(secret));
  expect(await readFile(path, 'utf8')).not.toContain(secret);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readKeyFile(path)).toEqual([entry]);
});

test('names are unique, ids never come back', async () => {
  const path = join(folder, 'names.json');
  const { entry } = await addKey(path, grant);
  await expect(addKey(path, grant)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  await revokeKey(path, 'ana');
  expect(await readKeyFile(path)).toEqual([]);
  expect((await addKey(path, grant)).entry.id).not.toBe(entry.id);
  await expect(revokeKey(path, 'bob')).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('keys that are made and revoked at one moment are all made and revoked', async () => {
  const path = join(folder, 'busy', 'keys.json');
  await Promise.all(['old-1', 'old-2'].map((name) => addKey(path, { ...grant, name })));
  const names = Array.from({ length: 12 }, (_, index) => `key-${index}`);
  await Promise.all([
    ...names.map((name) => addKey(path, { ...grant, name })),
    ...['old-1', 'old-2'].map((name) => revokeKey(path, name)),
  ]);
  expect((await readKeyFile(path)).map(({ name }) => name).toSorted()).toEqual(names.toSorted());
  expect(await readdir(join(folder, 'busy'))).toEqual(['keys.json']);
});

test('so are those that several processes make', async () => {
  const path = join(folder, 'processes.json');
  const names = ['a', 'b', 'c', 'd'];
  const children = names.map((name) => runCommand([ADD_KEYS_CHILD, path, name, '8'], { folder, script: TSX }));
  for (const { status, stderr } of await Promise.all(children)) expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const expected = names.flatMap((name) => Array.from({ length: 8 }, (_, index) => `${name}-${index}`));
  expect((await readKeyFile(path)).map(({ name }) => name).toSorted()).toEqual(expected.toSorted());
});

test.each(['', '../ana', 'a b', 'a\n', 'x'.repeat(65)])('%j cannot be a name', async (name) => {
  await expect(addKey(join(folder, 'bad-name.json'), { ...grant, name })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
});

test.each(['', '{', '[]', '{"version":1}', '{"version":2,"keys":[]}', '{"version":1,"keys":[{"name":"ana"}]}'])(
  '%j is no file of keys',
  async (text) => {
    const path = join(folder, 'damaged.json');
    await writeFile(path, text);
    await expect(readKeyFile(path)).rejects.toMatchObject({ code: 'INVALID_INPUT', message: expect.stringContaining(path) });
    await expect(addKey(path, grant)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
    expect(await readFile(path, 'utf8')).toBe(text);
  },
);
