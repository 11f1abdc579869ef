import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { temporaryFolder } from '../../../test/support/library-fixture.js';
import { CartridgeFolder } from './cartridge-folder.js';

const ENTRY = { sha256: '0'.repeat(64), source: 'upload' as const, owner: 'ana', createdAt: 1 };
let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
let folder: CartridgeFolder;
beforeEach(async () => {
  temporary = await temporaryFolder();
  folder = new CartridgeFolder(temporary.path);
  await folder.open();
});
afterEach(() => temporary.remove());

it('keeps no file whose entry cannot be written', async () => {
  // No file takes the place of a folder.
  const inTheWay = join(temporary.path, 'notes', 'entry.json');
  await mkdir(inTheWay, { recursive: true });
  const verified = folder.incomingPath();
  await writeFile(verified, 'rows');
  await expect(folder.publish('notes', verified, ENTRY)).rejects.toMatchObject({ name: 'CartridgesError' });
  expect(await readdir(join(temporary.path, 'notes'))).toEqual(['entry.json']);
  expect(await readdir(join(temporary.path, '.incoming'))).toEqual([]);
});
