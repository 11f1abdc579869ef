import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { inWorkFolder, WORK_FOLDER_MARK } from './work-folder.js';

const root = mkdtempSync(join(tmpdir(), 'cartridges-work-'));
afterAll(() => rmSync(root, { recursive: true }));

test('one works in a folder at a time, and the folder stays marked', async () => {
  const folder = join(root, 'run');
  const answer = await inWorkFolder(folder, async () => {
    await expect(inWorkFolder(folder, async () => 'second')).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: `another process (${process.pid}) works in ${folder}`,
    });
    return 'first';
  });
  expect(answer).toBe('first');
  expect(existsSync(join(folder, WORK_FOLDER_MARK))).toBe(true);
  await expect(inWorkFolder(folder, () => Promise.reject(new Error('failed')))).rejects.toThrow('failed');
  expect(await inWorkFolder(folder, async () => 'again')).toBe('again');
});

test('a killed process locks nobody out, and a file is no folder', async () => {
  const folder = join(root, 'killed');
  await inWorkFolder(folder, async () => {});
  writeFileSync(join(folder, '.lock'), '4194305\n');
  expect(await inWorkFolder(folder, async () => 'taken over')).toBe('taken over');
  writeFileSync(join(root, 'file'), '');
  await expect(inWorkFolder(join(root, 'file'), async () => {})).rejects.toMatchObject({ hint: 'name a folder' });
});
