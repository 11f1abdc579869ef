import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { sha256 } from '../../core/hashing.js';
import { runCommandLine } from '../main.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-keys-command-'));
const path = join(folder, 'keys.json');
afterAll(() => rmSync(folder, { recursive: true }));

async function keys(...commandLine: string[]) {
  const text = { stdout: '', stderr: '' };
  const status = await runCommandLine(['keys', ...commandLine, '--keys', path], {
    stdout: { write: (piece) => (text.stdout += piece) },
    stderr: { write: (piece) => (text.stderr += piece) },
  });
  return { status, ...text };
}

test('a key is shown once, listed without what is secret, and revoked', async () => {
  const flags = [
    '--cartridge',
    'notes',
    '--cartridge',
    'org/b',
    '--tokens-per-minute',
    '600',
    '--concurrency',
    '2',
    '--days',
    '30',
  ];
  const added = await keys('add', 'ana', ...flags);
  expect(added).toMatchObject({ status: 0, stderr: '' });
  const [entry] = (JSON.parse(readFileSync(path, 'utf8')) as { keys: Record<string, string>[] }).keys;
  expect(entry).toMatchObject({
    name: 'ana',
    sha256: sha256(added.stdout.trim()),
    cartridges: ['notes', 'org/b'],
    admin: false,
    limits: { tokensPerMinute: 600, concurrency: 2 },
  });
  expect(Date.parse(entry!['expiresAt']!) - Date.now()).toBeGreaterThan(29 * 86_400_000);

  const root = JSON.parse((await keys('add', 'root', '--all', '--admin', '--json')).stdout);
  expect(root).toEqual({ key: expect.stringMatching(/^ck_/), id: expect.stringMatching(/^key_/), name: 'root' });

  const listed = await keys('list');
  expect(listed.stdout).toMatch(/ana +key_\w+ +notes org\/b +no +20/);
  expect(listed.stdout).toMatch(/root +key_\w+ +\* +yes +never/);
  expect((await keys('list', '--json')).stdout).not.toMatch(/sha256|ck_/);

  expect(await keys('revoke', 'ana')).toMatchObject({ status: 0, stdout: 'revoked the key of ana\n' });
  expect((await keys('list')).stdout).not.toContain('ana');
});

test.each([
  [['add', 'root'], 3, 'has a key root already'],
  [['add', 'a b'], 2, 'cannot have this name'],
  [['add', 'carl', '--concurrency', '0'], 2, 'no whole number above 0'],
  [['add', 'carl', '--tokens-per-minute', '1.5'], 2, 'no whole number above 0'],
  [['revoke', 'nobody'], 3, 'has no key nobody'],
])('%j ends with %i', async (commandLine, status, message) => {
  expect(await keys(...commandLine)).toMatchObject({ status, stdout: '', stderr: expect.stringContaining(message) });
});
