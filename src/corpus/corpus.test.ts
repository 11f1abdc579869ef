import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ProgressEvent } from '../core/progress.js';
import { inWorkFolder } from '../core/work-folder.js';
import { openResource } from './open-resource.js';
import { readCorpus } from './read-corpus.js';
import type { Resource } from './resource.js';
import { MAXIMUM_TEXT_FILE_BYTES } from './text-file.js';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'corpus-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

async function write(path: string, content: string | Uint8Array): Promise<string> {
  const full = join(folder, path);
  await mkdir(dirname(full), { recursive: true });
  await writeFile(full, content);
  return full;
}

async function readIds(resource: Resource): Promise<string[]> {
  return (await readCorpus(resource)).documents.map(({ id }) => id);
}

describe('a text file', () => {
  it('is one document, whatever its extension, without its byte order mark', async () => {
    const corpus = await readCorpus(await openResource(await write('notes.unknown', '\uFEFFGrüße, Kärnten 🐝')));
    expect(corpus.name).toBe('notes.unknown');
    expect(corpus.documents).toEqual([{ id: 'notes.unknown', text: 'Grüße, Kärnten 🐝', metadata: { bytes: 25 } }]);
  });

  it.each([
    ['a NUL byte', Uint8Array.from([65, 0, 66])],
    ['bytes that are not UTF-8', Uint8Array.from([0xff, 0xfe, 0x41])],
  ])('with %s is refused', async (_what, bytes) => {
    const resource = await openResource(await write('a.txt', bytes));
    await expect(readCorpus(resource)).rejects.toMatchObject({ code: 'CORPUS_NOT_TEXT' });
  });

  it('with white space only is empty', async () => {
    const resource = await openResource(await write('a.txt', ' \n\t'));
    await expect(readCorpus(resource)).rejects.toMatchObject({ code: 'CORPUS_EMPTY' });
  });

  it('above the size limit is refused', async () => {
    const resource = await openResource(await write('a.txt', Buffer.alloc(MAXIMUM_TEXT_FILE_BYTES + 1, 65)));
    await expect(readCorpus(resource)).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });

  it('that does not exist is named', async () => {
    await expect(openResource(join(folder, 'nothing.txt'))).rejects.toMatchObject({
      code: 'FILE_NOT_FOUND',
      message: expect.stringContaining('nothing.txt'),
    });
  });
});

describe('a folder', () => {
  it('gives its text files in the order of their paths and leaves the rest out', async () => {
    await write('b.md', 'B');
    await write('a/z.txt', 'AZ');
    await write('a/b/c.py', 'ABC');
    await write('LICENSE', 'L');
    await write('.hidden/x.txt', 'hidden');
    await write('.env', 'hidden');
    await write('questions.jsonl', '{}');
    await write('a/unanswerable.jsonl', '{}');
    await write('general.jsonl', '{}');
    await write('blank.txt', '\n');
    expect(await readIds(await openResource(folder))).toEqual(['LICENSE', 'a/b/c.py', 'a/z.txt', 'b.md']);
  });

  it('warns of what it skipped', async () => {
    await write('a.txt', 'text');
    await write('photo.png', 'png');
    await write('broken.txt', Uint8Array.from([0xff]));
    const events: ProgressEvent[] = [];
    await readCorpus(await openResource(folder, (event) => events.push(event)));
    expect(events).toHaveLength(1);
    expect(events[0]).toMatchObject({ kind: 'warning', message: expect.stringContaining('broken.txt, photo.png') });
  });

  it('leaves out what this package has written into it, and says so', async () => {
    await write('a.txt', 'text');
    await inWorkFolder(join(folder, 'runs', 'notes'), () => write('runs/notes/plan.json', '{}'));
    await write('runs/own.txt', 'mine');
    const events: ProgressEvent[] = [];
    const corpus = await readCorpus(await openResource(folder, (event) => events.push(event)));
    expect(corpus.documents.map(({ id }) => id)).toEqual(['a.txt', 'runs/own.txt']);
    expect(events[0]?.message).toContain('skipped 1 folders that cartridges has written: runs/notes');
  });

  it('follows no symbolic link and ends on cycles', async () => {
    const outside = await mkdtemp(join(tmpdir(), 'outside-'));
    await writeFile(join(outside, 'secret.txt'), 'secret');
    await write('a.txt', 'text');
    await symlink(join(outside, 'secret.txt'), join(folder, 'secret.txt'));
    await symlink(outside, join(folder, 'outside'));
    await symlink(folder, join(folder, 'cycle'));
    const events: ProgressEvent[] = [];
    const corpus = await readCorpus(await openResource(folder, (event) => events.push(event)));
    await rm(outside, { recursive: true });
    expect(corpus.text).toBe('text');
    expect(events[0]).toMatchObject({ message: expect.stringContaining('cycle, outside, secret.txt') });
  });

  it('may be named by a link', async () => {
    await write('real/a.txt', 'text');
    await symlink(join(folder, 'real'), join(folder, 'link'));
    expect(await readIds(await openResource(join(folder, 'link')))).toEqual(['a.txt']);
  });

  it('without text is empty', async () => {
    await write('photo.png', 'png');
    await expect(readCorpus(await openResource(folder))).rejects.toMatchObject({ code: 'CORPUS_EMPTY' });
  });
});

describe('readCorpus', () => {
  it('joins documents and hashes the text alone', async () => {
    await write('one/a.txt', 'first');
    await write('one/b.txt', 'second');
    await write('two/x.txt', 'first\n\nsecond');
    const one = await readCorpus(await openResource(join(folder, 'one')));
    const two = await readCorpus(await openResource(join(folder, 'two')));
    expect(one.text).toBe('first\n\nsecond');
    expect(one.contentHash).toBe(two.contentHash);
    await write('two/x.txt', 'first\n\nsecond!');
    expect((await readCorpus(await openResource(join(folder, 'two')))).contentHash).not.toBe(two.contentHash);
  });

  it('stops on an abort', async () => {
    await write('a.txt', 'text');
    const resource = await openResource(folder);
    await expect(readCorpus(resource, AbortSignal.abort())).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});
