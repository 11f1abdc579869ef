import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { sha256 } from '../../core/hashing.js';

const name = z.string().regex(/^[\w.@-]{1,64}$/, 'expected up to 64 letters, digits and . @ - _');

/** What one key may use of the server; where it says nothing, the settings of the server hold. */
const keyLimits = z.strictObject({
  /** Requests at a time, and answers of all of them together. */
  concurrency: z.int().min(1).max(100_000).optional(),
  tokensPerMinute: z.int().min(1).optional(),
});

/** A key as the file keeps it: all but the key itself. */
export const apiKeySchema = z.strictObject({
  /** Names the key in logs, and what belongs to it in caches and stores; never given twice. */
  id: z.string().regex(/^key_[0-9a-f]{16}$/),
  name,
  /** In hex. A key is 256 random bits: nobody can try them all, so a hash that is slow on purpose would protect nothing. */
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Ids of cartridges; `*` is all of them. */
  cartridges: z.array(z.string().min(1).max(256)).max(10_000),
  admin: z.boolean(),
  limits: keyLimits,
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime().nullable(),
});

export type ApiKey = z.output<typeof apiKeySchema>;
export type KeyLimits = z.output<typeof keyLimits>;

/** What is decided about a key when it is made. */
export type KeyGrant = Pick<ApiKey, 'name' | 'cartridges' | 'admin' | 'limits' | 'expiresAt'>;

/** Makes a key: `secret` is what its holder sends, and is kept nowhere; `entry` is for the file. */
export function createApiKey(grant: KeyGrant): { secret: string; entry: ApiKey } {
  const secret = `ck_${randomBytes(32).toString('base64url')}`;
  const id = `key_${randomBytes(8).toString('hex')}`;
  return { secret, entry: { id, ...grant, sha256: sha256(secret), createdAt: new Date().toISOString() } };
}
