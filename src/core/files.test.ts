import { once } from 'node:events';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { assertWritable, writeFileAtomic } from './files.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cartridges-files-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const at = (...names: string[]) => join(folder, ...names);

describe('writeFileAtomic', () => {
  it('makes folders, replaces a file and leaves nothing else', async () => {
    await writeFileAtomic(at('a', 'b'), 'old');
    await writeFileAtomic(at('a', 'b'), 'new');
    expect(readFileSync(at('a', 'b'), 'utf8')).toBe('new');
    expect(readdirSync(at('a'))).toEqual(['b']);
  });

  it.each([
    ['to a file', 'target'],
    ['to a file that is not there yet', 'missing'],
    ['in a folder that is not there yet', join('none', 'missing')],
  ])('writes through a link %s', async (_what, name) => {
    writeFileSync(at('target'), 'old');
    mkdirSync(at('links'));
    symlinkSync(join('..', name), at('links', 'first'));
    symlinkSync('first', at('links', 'second'));
    await writeFileAtomic(at('links', 'second'), 'new');
    expect(readFileSync(at(name), 'utf8')).toBe('new');
    expect(lstatSync(at('links', 'second')).isSymbolicLink()).toBe(true);
    expect(readdirSync(at('links'))).toEqual(['first', 'second']);
  });

  it('refuses links that go in a circle', async () => {
    symlinkSync('b', at('a'));
    symlinkSync('a', at('b'));
    await expect(writeFileAtomic(at('a'), 'new')).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });
});

describe.each([
  ['writeFileAtomic', (path: string) => writeFileAtomic(path, 'new')],
  ['assertWritable', assertWritable],
])('%s refuses what is no file and leaves it', (_name, write) => {
  const refusal = (name: string) => ({ code: 'INVALID_OPTION', message: `${at(name)} is there and is no regular file` });

  it('a folder', async () => {
    mkdirSync(at('folder'));
    await expect(write(at('folder'))).rejects.toMatchObject(refusal('folder'));
    expect(readdirSync(folder)).toEqual(['folder']);
  });

  // It stands in for a device such as /dev/null, which a failing test would replace.
  it('a socket, and a link to it', async () => {
    const server = createServer().listen(at('socket'));
    await once(server, 'listening');
    symlinkSync('socket', at('link'));
    await expect(write(at('socket'))).rejects.toMatchObject(refusal('socket'));
    await expect(write(at('link'))).rejects.toMatchObject(refusal('link'));
    expect(lstatSync(at('socket')).isSocket()).toBe(true);
    expect(readdirSync(folder).sort()).toEqual(['link', 'socket']);
    server.close();
  });
});
