import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CartridgesError, toCartridgesError } from './errors.js';
import { withPath } from './files.js';
import { isRunning, type ProcessIdentity, thisProcess } from './process-identity.js';

export interface LockOptions {
  /** How long to wait for the process that has it. */
  waitMs: number;
  /** What to throw then; the process is unknown when its file cannot be read. */
  refuse: (owner: ProcessIdentity | undefined) => CartridgesError;
}

const POLL_MS = 10;
/** Its owner is written right behind the making of a file; one without an owner for so long was left by a crash. */
const UNWRITTEN_MS = 5_000;

/**
 * A file that one process of this machine holds at a time: it is there while somebody has it, and says who. One that a killed
 * process left behind is taken over.
 */
export class FileLock {
  readonly #path: string;
  readonly #owner: string;

  private constructor(path: string, owner: string) {
    this.#path = path;
    this.#owner = owner;
  }

  /** Takes the lock, or throws what `refuse` makes. Missing folders are made. */
  static async take(path: string, { waitMs, refuse }: LockOptions): Promise<FileLock> {
    const owner = formatOwner(thisProcess());
    const deadline = performance.now() + waitMs;
    try {
      await mkdir(dirname(path), { recursive: true });
      while (!(await create(path, owner))) {
        const found = await read(path);
        if (found === undefined) continue;
        if (isLeft(found)) await takeAway(path, found);
        else if (performance.now() >= deadline) throw refuse(found.owner);
        else await sleep(POLL_MS * (0.5 + Math.random()));
      }
    } catch (error) {
      throw toCartridgesError(error);
    }
    return new FileLock(path, owner);
  }

  /** Gives it back; safe to call twice. */
  async release(): Promise<void> {
    const found = await read(this.#path);
    if (found?.text === this.#owner) await rm(this.#path, { force: true });
  }
}

/** Does `work` while nobody else does work under the same lock. */
export async function withFileLock<T>(path: string, options: LockOptions, work: () => Promise<T>): Promise<T> {
  const lock = await FileLock.take(path, options);
  try {
    return await work();
  } finally {
    await lock.release();
  }
}

interface FoundLock {
  text: string;
  owner: ProcessIdentity | undefined;
  ageMs: number;
}

async function create(path: string, owner: string): Promise<boolean> {
  try {
    await writeFile(path, owner, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    // On a full disk it is made and stays empty, which would keep others out for a while.
    await rm(path, { force: true }).catch(() => undefined);
    throw withPath(error, path);
  }
}

async function read(path: string): Promise<FoundLock | undefined> {
  try {
    const [text, { mtimeMs }] = [await readFile(path, 'utf8'), await stat(path)];
    return { text, owner: parseOwner(text), ageMs: Date.now() - mtimeMs };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function parseOwner(text: string): ProcessIdentity | undefined {
  const [, pid, started] = /^(\d{1,10})(?: (.{1,200}))?\n$/.exec(text) ?? [];
  return pid === undefined ? undefined : { pid: Number(pid), ...(started !== undefined && { started }) };
}

/** `4711 0f1e… 123456`, the id of the process first, for people who look into the file. */
function formatOwner({ pid, started }: ProcessIdentity): string {
  return `${[pid, started].filter((part) => part !== undefined).join(' ')}\n`;
}

function isLeft({ owner, ageMs }: FoundLock): boolean {
  return owner ? !isRunning(owner) : ageMs > UNWRITTEN_MS;
}

/**
 * Removes what a process left behind. Of several that have seen it one may: the others could remove what the first has put in
 * its place. That right is a file too, held for the time of a look; where a process was killed just then, it is removed at once.
 */
async function takeAway(path: string, left: FoundLock): Promise<void> {
  const right = `${path}.takeover`;
  if (!(await create(right, formatOwner(thisProcess())))) {
    const other = await read(right);
    if (other && isLeft(other)) await rm(right, { force: true });
    else await sleep(POLL_MS);
    return;
  }
  try {
    if ((await read(path))?.text === left.text) await rm(path, { force: true });
  } finally {
    await rm(right, { force: true });
  }
}
