import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { sha256 } from '../../core/hashing.js';
import type { KeyGrant } from './api-key.js';
import { addKey, readKeyFile, revokeKey } from './key-file.js';

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
