import { timingSafeEqual } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { sha256 } from '../../core/hashing.js';
import type { Caller } from '../caller.js';
import type { ApiKey, KeyLimits } from './api-key.js';
import { readKeyFile } from './key-file.js';

/** Called when the file cannot be read any more; the keys that were read last stay valid. */
export type KeyFileWarning = (message: string) => void;

/** The API keys of a server. The file is read again when it has changed, so keys come and go without a restart. */
export class KeyRing {
  readonly #path: string;
  readonly #warn: KeyFileWarning;
  #keys: readonly ApiKey[] = [];
  #version = '';
  /** While the file is read again. */
  #reading: Promise<void> | undefined;

  private constructor(path: string, warn: KeyFileWarning) {
    this.#path = path;
    this.#warn = warn;
  }

  /** Throws as `readKeyFile` does. */
  static async open(path: string, warn: KeyFileWarning): Promise<KeyRing> {
    const ring = new KeyRing(path, warn);
    ring.#version = await fileVersion(path);
    ring.#keys = await readKeyFile(path);
    return ring;
  }

  /** Who holds a secret; undefined when it is unknown or has expired. */
  async find(secret: string, now = Date.now()): Promise<Caller | undefined> {
    await this.#refresh();
    return callerOf(this.#lookUp(secret), now);
  }

  /** Whose scope it is; undefined when the key is gone or has expired. */
  async holderOf(scope: string, now = Date.now()): Promise<Caller | undefined> {
    await this.#refresh();
    return callerOf(
      this.#keys.find(({ id }) => id === scope),
      now,
    );
  }

  /** What the key of a scope may use; undefined when the key is gone. */
  limitsOf(scope: string): KeyLimits | undefined {
    return this.#keys.find(({ id }) => id === scope)?.limits;
  }

  /** Compares with every key, in a time that tells neither whether nor where one matches. */
  #lookUp(secret: string): ApiKey | undefined {
    const wanted = Buffer.from(sha256(secret), 'hex');
    let found: ApiKey | undefined;
    for (const key of this.#keys) {
      if (timingSafeEqual(Buffer.from(key.sha256, 'hex'), wanted)) found = key;
    }
    return found;
  }

  /** Resolves when the keys are those of the file as it is now, or later. Who comes while it is read waits for that too. */
  async #refresh(): Promise<void> {
    while ((await this.#versionNow()) !== this.#version) {
      this.#reading ??= this.#read().finally(() => {
        this.#reading = undefined;
      });
      await this.#reading;
    }
  }

  async #read(): Promise<void> {
    // Asked for first: a change while the file is read leads to another reading.
    const version = await this.#versionNow();
    try {
      this.#keys = await readKeyFile(this.#path);
    } catch (error) {
      this.#warn(`the keys that were read before stay valid: ${(error as Error).message}`);
    }
    this.#version = version;
  }

  #versionNow(): Promise<string> {
    return fileVersion(this.#path).catch(() => 'missing');
  }
}

/** Changes whenever the file is replaced or written to. */
async function fileVersion(path: string): Promise<string> {
  const { ino, size, mtimeNs } = await stat(path, { bigint: true });
  return `${ino} ${size} ${mtimeNs}`;
}

function callerOf(key: ApiKey | undefined, now: number): Caller | undefined {
  if (key === undefined || (key.expiresAt !== null && Date.parse(key.expiresAt) <= now)) return undefined;
  const { id, admin, cartridges } = key;
  const allowed = new Set(cartridges);
  return { scope: id, isAdmin: admin, names: allowed, mayUse: (cartridge) => allowed.has('*') || allowed.has(cartridge) };
}
