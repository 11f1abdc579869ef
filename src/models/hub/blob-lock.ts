import { setTimeout as sleep } from 'node:timers/promises';
import { CartridgesError, throwIfAborted } from '../../core/errors.js';
import { FileLock } from '../../core/file-lock.js';
import type { ProcessIdentity } from '../../core/process-identity.js';

export interface BlobLockOptions {
  /** The file that is downloaded, for messages. */
  name: string;
  signal: AbortSignal | undefined;
  /** Told once, when another process has the lock. */
  onWait: ((message: string) => void) | undefined;
}

/** Between two looks: the other process may take hours. */
const POLL_MS = 100;

/**
 * Takes the lock of a download, as two that write the same partial file would damage it. Waits for the process that has it,
 * until the signal is aborted (`CANCELLED`); one that was killed is not waited for.
 */
export async function takeBlobLock(path: string, { name, signal, onWait = () => {} }: BlobLockOptions): Promise<FileLock> {
  for (let looks = 0; ; looks++) {
    throwIfAborted(signal);
    const { lock, owner } = await tryLock(path);
    if (lock) return lock;
    if (looks === 0) {
      const other = owner === undefined ? 'another process' : `process ${owner.pid}`;
      onWait(`${other} downloads ${name}; waiting for it (if there is no such download, remove ${path})`);
    }
    // The wait ends early for one reason alone.
    await sleep(POLL_MS, undefined, { signal }).catch(() => throwIfAborted(signal));
  }
}

async function tryLock(path: string): Promise<{ lock?: FileLock; owner?: ProcessIdentity }> {
  const taken = new CartridgesError('DOWNLOAD_FAILED', `another process has ${path}`);
  let owner: ProcessIdentity | undefined;
  const refuse = (found: ProcessIdentity | undefined) => {
    owner = found;
    return taken;
  };
  try {
    return { lock: await FileLock.take(path, { waitMs: 0, refuse }) };
  } catch (error) {
    if (error !== taken) throw error;
    return { ...(owner && { owner }) };
  }
}
