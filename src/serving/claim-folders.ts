import { join, resolve } from 'node:path';
import { CartridgesError } from '../core/errors.js';
import { FileLock } from '../core/file-lock.js';

/** The folders that a server writes to. */
export interface ServerFolders {
  dataFolder: string;
  cartridgeFolder: string;
}

const LOCK = '.server.lock';

/**
 * Claims the folders of a server: two of them would run the batches twice and empty each other's uploads. Throws
 * `INVALID_OPTION` while another server of this machine has one. Returns what gives them back.
 */
export async function claimFolders({ dataFolder, cartridgeFolder }: ServerFolders): Promise<() => Promise<void>> {
  const claims = [
    { folder: dataFolder, setting: 'serving.dataFolder' },
    { folder: cartridgeFolder, setting: 'serving.cartridgeFolder' },
  ];
  // Both may be one folder.
  if (resolve(dataFolder) === resolve(cartridgeFolder)) claims.pop();
  const locks: FileLock[] = [];
  const release = async () => {
    for (const lock of locks.splice(0)) await lock.release();
  };
  try {
    for (const claim of claims) locks.push(await claimFolder(claim));
  } catch (error) {
    await release();
    throw error;
  }
  return release;
}

function claimFolder({ folder, setting }: { folder: string; setting: string }): Promise<FileLock> {
  const path = join(folder, LOCK);
  return FileLock.take(path, {
    waitMs: 0,
    refuse: (owner) =>
      new CartridgesError(
        'INVALID_OPTION',
        `another server uses the folder ${folder}${owner === undefined ? '' : ` (process ${owner.pid})`}`,
        { hint: `stop it, or give this one a ${setting} of its own; if there is no other server, remove ${path}` },
      ),
  });
}
