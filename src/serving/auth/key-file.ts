import { readFile, stat } from 'node:fs/promises';
import { z } from 'zod';
import { CartridgesError } from '../../core/errors.js';
import { withFileLock } from '../../core/file-lock.js';
import { replaceFile } from '../../core/files.js';
import { type ApiKey, apiKeySchema, createApiKey, type KeyGrant } from './api-key.js';

const MAX_FILE_BYTES = 64 << 20;
const MAX_KEYS = 100_000;
/** Nobody but the owner reads or writes the file. */
const FILE_MODE = 0o600;
/** A change takes milliseconds; whoever waits longer waits for a process that hangs. */
const LOCK_WAIT_MS = 15_000;

const keyFileSchema = z.strictObject({ version: z.literal(1), keys: z.array(apiKeySchema).max(MAX_KEYS) });

/** The keys of a file. Throws `FILE_NOT_FOUND`, or `INVALID_INPUT` that says where the file is wrong. */
export async function readKeyFile(path: string): Promise<ApiKey[]> {
  const { size } = await stat(path);
  if (size > MAX_FILE_BYTES) throw invalidFile(path, `it has ${size} bytes, at most ${MAX_FILE_BYTES} are read`);
  const result = keyFileSchema.safeParse(parseJson(path, await readFile(path, 'utf8')));
  if (!result.success) {
    const { path: where, message } = result.error.issues[0]!;
    throw invalidFile(path, `${where.join('.') || 'the file'}: ${message}`);
  }
  return result.data.keys;
}

/** Adds a key and returns it, the only time that it is seen. The file is made when it is missing. */
export function addKey(path: string, grant: KeyGrant): Promise<{ secret: string; entry: ApiKey }> {
  return alone(path, () => addKeyAlone(path, grant));
}

async function addKeyAlone(path: string, grant: KeyGrant): Promise<{ secret: string; entry: ApiKey }> {
  const keys = await readOrEmpty(path);
  if (keys.some((key) => key.name === grant.name)) {
    throw new CartridgesError('INVALID_INPUT', `${path} has a key ${grant.name} already`, {
      hint: 'revoke it first, or take another name',
    });
  }
  const { secret, entry } = createApiKey(grant);
  const checked = apiKeySchema.safeParse(entry);
  if (!checked.success) {
    const { path: where, message } = checked.error.issues[0]!;
    throw new CartridgesError('INVALID_OPTION', `a key cannot have this ${where.join('.')}: ${message}`);
  }
  await writeKeyFile(path, [...keys, entry]);
  return { secret, entry };
}

/** Takes a key out; a running server refuses it from its next request on. Throws `NOT_FOUND`. */
export async function revokeKey(path: string, name: string): Promise<void> {
  // A file that is not there is no reason to make its folder for a lock.
  await stat(path);
  await alone(path, async () => {
    const keys = await readKeyFile(path);
    const kept = keys.filter((key) => key.name !== name);
    if (kept.length === keys.length) throw new CartridgesError('NOT_FOUND', `${path} has no key ${name}`);
    await writeKeyFile(path, kept);
  });
}

/** Reads, changes and writes the file while no other process does: the one that writes last would take back what the other did. */
function alone<T>(path: string, change: () => Promise<T>): Promise<T> {
  const lock = `${path}.lock`;
  return withFileLock(lock, { waitMs: LOCK_WAIT_MS, refuse }, change);

  function refuse(owner: { pid: number } | undefined): CartridgesError {
    const who = owner === undefined ? 'another process' : `the process ${owner.pid}`;
    return new CartridgesError('INVALID_INPUT', `${who} has been changing ${path} for ${LOCK_WAIT_MS / 1000} seconds`, {
      hint: `end it; if there is none, remove ${lock}`,
    });
  }
}

async function readOrEmpty(path: string): Promise<ApiKey[]> {
  return readKeyFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
}

function writeKeyFile(path: string, keys: readonly ApiKey[]): Promise<void> {
  return replaceFile(path, async (handle) => {
    await handle.chmod(FILE_MODE);
    await handle.writeFile(`${JSON.stringify({ version: 1, keys }, null, 2)}\n`);
  });
}

function parseJson(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CartridgesError('INVALID_INPUT', `${path} is no JSON`, { cause: error });
  }
}

function invalidFile(path: string, problem: string): CartridgesError {
  return new CartridgesError('INVALID_INPUT', `${path} is no file of API keys: ${problem}`, {
    hint: 'cartridges keys add NAME --keys FILE makes one',
  });
}
