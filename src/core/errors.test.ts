import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { toCartridgesError } from './errors.js';

it.each([
  ['a name that is too long', join(tmpdir(), 'x'.repeat(300)), 'ENAMETOOLONG'],
  ['a folder', tmpdir(), 'EISDIR'],
  ['a file as folder', '/dev/null/x', 'ENOTDIR'],
])('takes %s for a mistake of the caller', async (_what, path, message) => {
  const thrown = await readFile(path).catch((error: unknown) => error);
  expect(toCartridgesError(thrown)).toMatchObject({ code: 'INVALID_INPUT', message: expect.stringContaining(message) });
});
