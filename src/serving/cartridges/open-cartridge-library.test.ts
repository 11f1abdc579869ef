import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  ADMIN,
  BookkeepingEngine,
  callerOf,
  fileBytes,
  POCKET,
  pocketCartridge,
  refer,
  streamOf,
  temporaryFolder,
  twoFiles,
} from '../../../test/support/library-fixture.js';
import type { ModelFingerprint } from '../../cartridge/cartridge.js';
import { sha256 } from '../../core/hashing.js';
import type { ProgressEvent } from '../../core/progress.js';
import { toErrorResponse } from '../error-response.js';
import type { LibraryLimits } from './library-limits.js';
import { type CartridgeLibraryOptions, openCartridgeLibrary, type ServedCartridges } from './open-cartridge-library.js';

const UPLOAD_CHILD = resolve(import.meta.dirname, '../../../test/support/cartridge-upload-child.ts');
const ANYBODY = callerOf('anybody', 'all');
let first: Buffer;
let second: Buffer;
let temporary: Awaited<ReturnType<typeof temporaryFolder>>;
let folder: string;
let engine: BookkeepingEngine;
let events: ProgressEvent[];

beforeAll(async () => {
  [first, second] = await twoFiles();
});
beforeEach(async () => {
  temporary = await temporaryFolder();
  folder = join(temporary.path, 'library');
  engine = new BookkeepingEngine();
  events = [];
});
afterEach(async () => {
  expect(engine.mistakes).toEqual([]);
  await temporary.remove();
});

const open = async (more: Partial<CartridgeLibraryOptions> = {}) =>
  openCartridgeLibrary({ folder, engine, session: POCKET, onProgress: (event) => events.push(event), ...more });
const upload = (library: ServedCartridges, id: string, bytes: Uint8Array, replace = false) =>
  library.upload({ id, stream: streamOf(bytes), replace }, ADMIN);
const hold = (library: ServedCartridges, ...ids: string[]) =>
  library.hold(
    ids.map((id) => refer(id)),
    ANYBODY,
  );
const firstKeyOf = (seed: number) => pocketCartridge(seed).keys[0]![0]!;
const ofModel = (more: Partial<ModelFingerprint>) =>
  pocketCartridge(3, { ...POCKET, fingerprint: { ...POCKET.fingerprint, ...more } });
const warnings = () => events.filter(({ kind }) => kind === 'warning').map(({ message }) => message);
const safetensorsIn = async (path: string) => (await readdir(path)).filter((name) => name.endsWith('.safetensors'));

describe('a library of cartridges', () => {
  it('serves what is uploaded, and has it again after a restart', async () => {
    const library = await open();
    const entry = await upload(library, 'org/notes', first);
    expect(entry).toMatchObject({ id: 'org/notes', aliases: [], tokenCount: 4, bytes: first.length, sha256: sha256(first) });
    expect(library.list(ANYBODY)).toEqual([entry]);
    await library.setAlias('latest', 'org/notes');
    const again = await open({ engine: new BookkeepingEngine() });
    expect(again.list(ANYBODY)).toEqual([{ ...entry, aliases: ['latest'] }]);
    const held = await hold(library, 'latest');
    expect(held).toMatchObject({ ids: ['org/notes'], tokenCount: 4 });
    expect(await engine.firstKey(held.handles[0])).toBe(firstKeyOf(1));
    held.release();
  });

  it('reads files that are named at start where they are', async () => {
    const path = join(temporary.path, 'mine.safetensors');
    await writeFile(path, first);
    const library = await open({ files: new Map([['mine', path]]) });
    expect((await hold(library, 'mine')).ids).toEqual(['mine']);
    await expect(upload(library, 'mine', second, true)).rejects.toMatchObject({ status: 409 });
    await library.remove('mine');
    expect(first.equals(await readFile(path))).toBe(true);
    await expect(open({ files: new Map([['../mine', path]]) })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    await expect(open({ files: new Map([['x', `${path}.none`]]) })).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
  });

  it('shares one handle between names with the same content, and between requests', async () => {
    const library = await open();
    await upload(library, 'a', first);
    await upload(library, 'b', first);
    expect(engine.known.size).toBe(1);
    const held = [await hold(library, 'a'), await hold(library, 'b')];
    expect(held[0]!.handles[0]).toBe(held[1]!.handles[0]);
    await library.remove('a');
    await library.remove('b');
    expect(engine.known.size).toBe(1);
    expect(await engine.firstKey(held[0]!.handles[0])).toBe(firstKeyOf(1));
    for (const { release } of held) release();
    await library.close();
    expect(engine.known.size).toBe(0);
    expect(await readdir(folder)).toEqual(['.incoming']);
  });

  it('gives running requests the old rows and later ones the new', async () => {
    const library = await open();
    await upload(library, 'notes', first);
    const before = await hold(library, 'notes');
    await expect(upload(library, 'notes', second)).rejects.toMatchObject({ status: 409 });
    await upload(library, 'notes', second, true);
    const after = await hold(library, 'notes');
    // Nothing was read before the replacement: the old file has to be there still.
    expect(await engine.firstKey(before.handles[0])).toBe(firstKeyOf(1));
    expect(await engine.firstKey(after.handles[0])).toBe(firstKeyOf(2));
    expect(await safetensorsIn(join(folder, 'notes'))).toHaveLength(2);
    before.release();
    before.release();
    await library.close();
    expect(engine.known.size).toBe(1);
    expect(await safetensorsIn(join(folder, 'notes'))).toHaveLength(1);
    await library.remove('notes');
    await expect(hold(library, 'notes')).rejects.toMatchObject({ status: 404 });
    expect(await engine.firstKey(after.handles[0])).toBe(firstKeyOf(2));
    after.release();
    await library.close();
    expect(engine.known.size).toBe(0);
  });

  it('takes up what is put into the folder by hand, and reads it anew on request', async () => {
    const library = await open({ sources: { local: true } });
    await mkdir(join(folder, 'by-hand'));
    const path = join(folder, 'by-hand', 'cartridge.safetensors');
    await writeFile(path, first);
    const before = await hold(library, 'by-hand');
    expect(await engine.firstKey(before.handles[0])).toBe(firstKeyOf(1));
    await writeFile(path, second);
    await library.reload('by-hand');
    const after = await hold(library, 'by-hand');
    expect(await engine.firstKey(after.handles[0])).toBe(firstKeyOf(2));
    expect(await engine.firstKey(before.handles[0])).toBe(firstKeyOf(1));
    before.release();
    await writeFile(path, first);
    await Promise.all([1, 2, 3].map(() => library.hold([refer('by-hand', { forceRedownload: true })], ANYBODY)));
    expect(library.get('by-hand').sha256).toBe(sha256(first));
    await library.remove('by-hand');
    await expect(hold(library, 'by-hand')).rejects.toMatchObject({ status: 404 });
    expect((await open({ engine: new BookkeepingEngine() })).all()).toEqual([]);
  });

  it('does not look into the folder when that is not allowed', async () => {
    const library = await open();
    await mkdir(join(folder, 'by-hand'));
    await writeFile(join(folder, 'by-hand', 'cartridge.safetensors'), first);
    await expect(hold(library, 'by-hand')).rejects.toMatchObject({ status: 404 });
    const remote = refer('by-hand', { source: 'huggingface' });
    await expect(library.hold([remote], ANYBODY)).rejects.toMatchObject({ status: 400, message: /huggingface/ });
  });

  it('refuses what was changed on disk behind its back', async () => {
    const library = await open();
    await upload(library, 'notes', first);
    const [name] = await safetensorsIn(join(folder, 'notes'));
    await writeFile(join(folder, 'notes', name!), second);
    await expect(library.load('notes')).rejects.toMatchObject({ status: 400, message: /the cartridge notes has changed/ });
    await expect(library.reload('notes')).rejects.toMatchObject({ status: 409 });
  });

  it('moves an alias from one cartridge to another, and refuses names that are taken', async () => {
    const library = await open();
    await upload(library, 'v1', first);
    await upload(library, 'v2', second);
    await library.setAlias('current', 'v1');
    await library.setAlias('current', 'v2');
    expect((await hold(library, 'current')).ids).toEqual(['v2']);
    await expect(library.setAlias('v1', 'v2')).rejects.toMatchObject({ status: 409 });
    await expect(library.setAlias('Current', 'v2')).rejects.toMatchObject({ status: 409 });
    await expect(upload(library, 'current', first, true)).rejects.toMatchObject({ status: 409 });
    await expect(upload(library, 'V1', first)).rejects.toMatchObject({ status: 409 });
    await expect(library.remove('current')).rejects.toMatchObject({ status: 409 });
    await expect(library.deleteAlias('current', 'v1')).rejects.toMatchObject({ status: 404 });
    await library.deleteAlias('current', 'v2');
    await expect(hold(library, 'current')).rejects.toMatchObject({ status: 404 });
  });

  it('loads and unloads rows, but not while a request uses them', async () => {
    const library = await open();
    await upload(library, 'notes', first);
    const held = await hold(library, 'notes');
    await library.load('notes');
    expect(await library.inspect('notes')).toMatchObject({ isResident: true, holders: 1, origin: 'upload', owner: 'admin' });
    engine.inUse.add(held.handles[0]!);
    await expect(library.unload('notes')).rejects.toMatchObject({ status: 409 });
    engine.inUse.clear();
    await library.unload('notes');
    expect(engine.isResident(held.handles[0]!)).toBe(false);
    held.release();
  });
});

describe('what a library refuses', () => {
  it.each<[string, () => Promise<Uint8Array>, RegExp]>([
    ['a text', async () => Buffer.from('no cartridge'), /not a usable/],
    ['nothing', async () => new Uint8Array(0), /not a usable/],
    ['a truncated file', async () => first.subarray(0, first.length - 7), /not a usable/],
    [
      'changed rows',
      async () => Buffer.concat([first.subarray(0, -4), Buffer.from([0, 0, 0, 1])]),
      /not those that were written/,
    ],
    ['another model', () => fileBytes(ofModel({ ropeBase: 7 })), /another model/],
    ['another quantisation', () => fileBytes(ofModel({ weightsHash: 'a'.repeat(64) })), /weights/],
    ['another framing', () => fileBytes({ ...pocketCartridge(3), framing: { name: 'x', hash: 'a'.repeat(64) } }), /framing/],
  ])('%s, without a trace', async (_what, make, message) => {
    const library = await open();
    const uploading = upload(library, 'bad', await make());
    await expect(uploading).rejects.toMatchObject({ status: 400, message: expect.stringMatching(message) });
    await expect(uploading).rejects.not.toMatchObject({ message: expect.stringContaining(folder) });
    expect(library.all()).toEqual([]);
    expect(await readdir(folder)).toEqual(['.incoming']);
    expect(await readdir(join(folder, '.incoming'))).toEqual([]);
  });

  it('takes another quantisation when that is allowed', async () => {
    const library = await open({ allowQuantization: true });
    await upload(library, 'q', await fileBytes(ofModel({ weightsHash: 'a'.repeat(64) })));
    expect(library.all()).toHaveLength(1);
  });

  it('bytes with another hash than expected', async () => {
    const library = await open();
    const uploading = library.upload({ id: 'x', stream: streamOf(first), replace: false, expectedSha256: sha256(second) }, ADMIN);
    await expect(uploading).rejects.toMatchObject({ status: 400, param: 'sha256' });
  });

  it('what is too large, too long, too much or too slow', async () => {
    const refusal = async (limits: Partial<LibraryLimits>, ids: string[], maxSequenceTokens = 512) => {
      const strict = Object.assign(new BookkeepingEngine(), { maxSequenceTokens });
      const library = await open({ engine: strict, limits, folder: join(temporary.path, JSON.stringify(limits)) });
      for (const id of ids.slice(1)) await upload(library, id, first);
      return upload(library, ids[0]!, second).catch((error) => error);
    };
    expect(await refusal({ maxFileBytes: first.length - 1 }, ['x'])).toMatchObject({ status: 413 });
    expect(await refusal({ maxCartridges: 1 }, ['x', 'y'])).toMatchObject({ status: 409 });
    expect(await refusal({ maxFolderBytes: first.length + 10 }, ['x', 'y'])).toMatchObject({ status: 413 });
    expect(await refusal({}, ['x'], 4)).toMatchObject({ status: 400, message: expect.stringMatching(/4 rows/) });
    const slow = await open({ limits: { uploadSeconds: 0.01 } });
    const stream = new ReadableStream<Uint8Array>({ pull: () => new Promise(() => {}) });
    await expect(slow.upload({ id: 'z', stream, replace: false }, ADMIN)).rejects.toMatchObject({ status: 408 });
  });

  it('to tell a client of paths of this machine when the disk refuses', async () => {
    const library = await open();
    await writeFile(join(folder, 'x'), 'no folder');
    const failure = await upload(library, 'x', first).catch((error) => error);
    expect(failure).toMatchObject({ code: 'INTERNAL', message: expect.stringContaining(folder) });
    expect(await toErrorResponse(failure).text()).not.toContain(folder);
  });

  it('more uploads at a time than it has room for', async () => {
    const library = await open({ limits: { maxUploads: 1 } });
    const running = upload(library, 'a', first);
    await expect(upload(library, 'b', second)).rejects.toMatchObject({ status: 429 });
    await running;
    await upload(library, 'b', second);
  });
});

describe('who may use a cartridge', () => {
  it('answers a foreign id and one that does not exist alike', async () => {
    const library = await open({ sources: { local: true } });
    await upload(library, 'secret', first);
    const stranger = callerOf('stranger', ['other']);
    const refusals = await Promise.all(
      ['secret', 'nothing', '../secret', 'a/b/c'].map((id) => library.hold([refer(id)], stranger).catch((error) => error)),
    );
    const words = refusals.map(({ status, message, hint, param }) => ({
      status,
      message: message.replace(/".*"/, ''),
      hint,
      param,
    }));
    expect(new Set(words.map((word) => JSON.stringify(word))).size).toBe(1);
    expect(words[0]).toMatchObject({ status: 404 });
    expect(library.list(stranger)).toEqual([]);
  });

  it('lets a key that may use an alias use the cartridge behind it', async () => {
    const library = await open();
    await upload(library, 'v1', first);
    await upload(library, 'v2', second);
    await library.setAlias('current', 'v2');
    const team = callerOf('team', ['current']);
    expect(library.list(team).map(({ id }) => id)).toEqual(['v2']);
    expect((await library.hold([refer('current')], team)).ids).toEqual(['v2']);
    expect((await library.hold([refer('v2')], team)).ids).toEqual(['v2']);
    await expect(library.hold([refer('v1')], team)).rejects.toMatchObject({ status: 404 });
  });

  it('holds nothing when one of several may not be used', async () => {
    const library = await open();
    await upload(library, 'a', first);
    await upload(library, 'b', second);
    await expect(library.hold([refer('a'), refer('b')], callerOf('team', ['a']))).rejects.toMatchObject({ status: 404 });
    expect((await library.inspect('a')).holders).toBe(0);
    const many = Array.from({ length: 17 }, () => refer('a'));
    await expect(library.hold(many, ANYBODY)).rejects.toMatchObject({ status: 400 });
  });
});

describe('the next start', () => {
  it('removes what an upload that was killed left, and leaves what it can not use', async () => {
    const library = await open();
    await upload(library, 'notes', first);
    // As after kill -9: a part of a body, a file that was moved before its entry was written, and a damaged entry.
    await writeFile(join(folder, '.incoming', 'abcd'), first.subarray(0, 100));
    await writeFile(join(folder, 'notes', 'cartridge-0123456789abcdef.safetensors'), second);
    await mkdir(join(folder, 'unfinished'));
    await writeFile(join(folder, 'unfinished', 'cartridge-0123456789abcdef.safetensors'), second);
    await mkdir(join(folder, 'damaged'));
    await writeFile(join(folder, 'damaged', 'entry.json'), '{"version": 1, "file": "../../etc/passwd"}');
    await mkdir(join(folder, 'foreign'));
    await writeFile(join(folder, 'foreign', 'cartridge.safetensors'), await fileBytes(ofModel({ ropeBase: 7 })));
    const again = await open({ engine: new BookkeepingEngine() });
    expect(again.all().map(({ id }) => id)).toEqual(['notes']);
    expect(await readdir(join(folder, '.incoming'))).toEqual([]);
    expect(await safetensorsIn(join(folder, 'notes'))).toHaveLength(1);
    expect((await readdir(folder)).sort()).toEqual(['.incoming', 'damaged', 'foreign', 'notes']);
    expect(warnings()).toEqual([expect.stringMatching(/damaged/), expect.stringMatching(/foreign.*another model/)]);
  });

  it('removes what an upload left whose process was killed, and has what was accepted', async () => {
    const child = spawn(process.execPath, ['--import', 'tsx', UPLOAD_CHILD, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(await readdir(join(folder, '.incoming'))).toHaveLength(1);
    expect((await open()).all().map(({ id }) => id)).toEqual(['whole']);
    expect(await readdir(join(folder, '.incoming'))).toEqual([]);
    expect((await readdir(folder)).sort()).toEqual(['.incoming', 'whole']);
  });

  it('refuses to trust an alias file that is damaged', async () => {
    await open();
    await writeFile(join(folder, 'aliases.json'), '{"../x": "y"}');
    await expect(open()).rejects.toMatchObject({ code: 'INVALID_INPUT', message: /aliases.json/ });
  });
});
