/** Runs in a process of its own: `add-keys-child.ts FILE NAME COUNT` adds the keys `NAME-0`, `NAME-1` and so on to a file of API keys. */

import { addKey } from '../../src/serving/auth/key-file.js';

const [path, name, count] = process.argv.slice(2) as [string, string, string];
for (let index = 0; index < Number(count); index++) {
  await addKey(path, { name: `${name}-${index}`, cartridges: [], admin: false, limits: {}, expiresAt: null });
}
