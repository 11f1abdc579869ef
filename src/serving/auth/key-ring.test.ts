import { mkdtempSync, rmSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { KeyGrant } from './api-key.js';
import { addKey, revokeKey } from './key-file.js';
import { KeyRing } from './key-ring.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-ring-'));
afterAll(() => rmSync(folder, { recursive: true }));

const grant: KeyGrant = { name: 'ana', cartridges: ['notes'], admin: false, limits: { concurrency: 2 }, expiresAt: null };

test('finds the holder of a key and what it may', async () => {
  const path = join(folder, 'find.json');
  const ana = await addKey(path, grant);
  const root = await addKey(path, { ...grant, name: 'root', cartridges: ['*'], admin: true });
  const ring = await KeyRing.open(path, () => {});
  const caller = await ring.find(ana.secret);
  expect(caller).toMatchObject({ scope: ana.entry.id, isAdmin: false });
  expect([caller!.mayUse('notes'), caller!.mayUse('other'), caller!.mayUse('*')]).toEqual([true, false, false]);
  const admin = await ring.find(root.secret);
  expect([admin!.isAdmin, admin!.mayUse('other')]).toEqual([true, true]);
  expect(ring.limitsOf(ana.entry.id)).toEqual({ concurrency: 2 });
  expect(await ring.holderOf(ana.entry.id)).toMatchObject({ scope: ana.entry.id, isAdmin: false });
  expect(await ring.holderOf('local')).toBeUndefined();
});

test('knows no other secret, a hash least of all', async () => {
  const path = join(folder, 'unknown.json');
  const { secret, entry } = await addKey(path, grant);
  const ring = await KeyRing.open(path, () => {});
  for (const wrong of ['', 'ck_', entry.sha256, entry.id, `${secret}x`, secret.slice(0, -1), secret.toUpperCase()]) {
    expect(await ring.find(wrong)).toBeUndefined();
  }
});

test('a key ends when it expires', async () => {
  const path = join(folder, 'expired.json');
  const { secret } = await addKey(path, { ...grant, expiresAt: '2030-01-01T00:00:00.000Z' });
  const ring = await KeyRing.open(path, () => {});
  expect(await ring.find(secret, Date.parse('2029-12-31'))).toBeDefined();
  expect(await ring.find(secret, Date.parse('2030-01-01'))).toBeUndefined();
});

test('keys come and go while the server runs', async () => {
  const path = join(folder, 'changing.json');
  const ana = await addKey(path, grant);
  const ring = await KeyRing.open(path, () => {});
  const bob = await addKey(path, { ...grant, name: 'bob' });
  expect(await ring.find(bob.secret)).toMatchObject({ scope: bob.entry.id });
  await revokeKey(path, 'ana');
  expect(await ring.find(ana.secret)).toBeUndefined();
  expect(ring.limitsOf(ana.entry.id)).toBeUndefined();
  expect(await ring.holderOf(ana.entry.id)).toBeUndefined();
});

test('a key that was revoked is refused by all who ask while the file is read again', async () => {
  const path = join(folder, 'revoked.json');
  const ana = await addKey(path, grant);
  const ring = await KeyRing.open(path, () => {});
  for (let round = 0; round < 10; round++) {
    const bob = await addKey(path, { ...grant, name: 'bob' });
    expect(await ring.find(bob.secret)).toBeDefined();
    await revokeKey(path, 'bob');
    const found = await Promise.all(Array.from({ length: 20 }, () => ring.find(bob.secret)));
    expect(found.filter(Boolean)).toEqual([]);
  }
  expect(await ring.find(ana.secret)).toBeDefined();
});

test('a file that was damaged or lost leaves the keys as they were, with one warning', async () => {
  const path = join(folder, 'damaged.json');
  const { secret } = await addKey(path, grant);
  const warnings: string[] = [];
  const ring = await KeyRing.open(path, (message) => warnings.push(message));
  await writeFile(path, '{');
  expect([await ring.find(secret), await ring.find(secret)]).not.toContain(undefined);
  expect(warnings).toHaveLength(1);
  await rm(path);
  expect(await ring.find(secret)).toBeDefined();
  expect(warnings).toHaveLength(2);
});

test('a server does not start without its file', async () => {
  await expect(KeyRing.open(join(folder, 'missing.json'), () => {})).rejects.toMatchObject({ code: 'ENOENT' });
});
