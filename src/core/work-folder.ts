import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CartridgesError } from './errors.js';
import { withFileLock } from './file-lock.js';
import { writeFileAtomic } from './files.js';

/** The file that says that a folder was written by this package: who reads a folder as text leaves such ones out. */
export const WORK_FOLDER_MARK = '.cartridges';

const MARK_TEXT = 'Written by cartridges. A folder with this file is left out when the folder around it is read as a text.\n';

/**
 * Does `work` in a folder, which is made and marked, while no other process of this machine works there: two would write over each
 * other's files. Throws `INVALID_OPTION` while another one does.
 */
export async function inWorkFolder<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const found = await stat(folder).catch(() => undefined);
  if (found && !found.isDirectory()) {
    throw new CartridgesError('INVALID_OPTION', `${folder} is a file, and a folder is written there`, { hint: 'name a folder' });
  }
  const path = join(folder, '.lock');
  const refuse = (owner: { pid: number } | undefined) =>
    new CartridgesError('INVALID_OPTION', `another process${owner ? ` (${owner.pid})` : ''} works in ${folder}`, {
      hint: `wait until it has ended, or name another folder or output; if there is no other, remove ${path}`,
    });
  return withFileLock(path, { waitMs: 0, refuse }, async () => {
    await writeFileAtomic(join(folder, WORK_FOLDER_MARK), MARK_TEXT);
    return work();
  });
}
