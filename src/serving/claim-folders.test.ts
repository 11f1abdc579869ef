import { mkdtempSync, rmSync } from 'node:fs';
import { readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { claimFolders } from './claim-folders.js';

const root = mkdtempSync(join(tmpdir(), 'cartridges-claims-'));
afterAll(() => rmSync(root, { recursive: true }));

const dataFolder = join(root, 'data');
const cartridgeFolder = join(root, 'cartridges');
const other = join(root, 'other');

test('a folder of data or of cartridges belongs to one server, until that gives it back', async () => {
  const release = await claimFolders({ dataFolder, cartridgeFolder });
  const refusal = (folder: string, setting: string) => ({
    code: 'INVALID_OPTION',
    message: `another server uses the folder ${folder} (process ${process.pid})`,
    hint: expect.stringContaining(setting),
  });
  const sameData = claimFolders({ dataFolder, cartridgeFolder: other });
  await expect(sameData).rejects.toMatchObject(refusal(dataFolder, 'serving.dataFolder'));
  const sameCartridges = claimFolders({ dataFolder: other, cartridgeFolder });
  await expect(sameCartridges).rejects.toMatchObject(refusal(cartridgeFolder, 'serving.cartridgeFolder'));
  // What could be had of it was given back, and one folder may be both.
  await (await claimFolders({ dataFolder: other, cartridgeFolder: other }))();
  await release();
  await (await claimFolders({ dataFolder, cartridgeFolder }))();
  expect((await readdir(root, { recursive: true })).toSorted()).toEqual(['cartridges', 'data', 'other']);
});

test.runIf(process.platform === 'linux')(
  'what a killed server left is taken over, also when another process has its id',
  async () => {
    await writeFile(join(dataFolder, '.server.lock'), `${process.pid} another-boot 1\n`);
    await (await claimFolders({ dataFolder, cartridgeFolder }))();
  },
);
