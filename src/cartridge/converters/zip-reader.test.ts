import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readZip } from './zip-reader.js';
import { writeZip } from './zip-writer.js';

const folder = mkdtempSync(join(tmpdir(), 'zip-'));
afterAll(() => rmSync(folder, { recursive: true }));

const path = join(folder, 'a.zip');
const ENTRIES = [
  { name: 'a/first', bytes: Buffer.from('one') },
  { name: 'a/empty', bytes: Buffer.alloc(0) },
  { name: 'a/größer', bytes: Buffer.alloc(1000, 7) },
];
const END_BYTES = 22;

let archive: Buffer;
/** Where the directory begins, and so the entry of `a/first` in it. */
let directory: number;

beforeAll(async () => {
  await writeZip(path, ENTRIES);
  archive = readFileSync(path);
  directory = archive.readUInt32LE(archive.length - END_BYTES + 16);
});

test('what is written is read, and all of it lies at multiples of 64 bytes', () => {
  const entries = readZip(archive, path);
  expect([...entries].map(([name, bytes]) => ({ name, bytes: Buffer.from(bytes) }))).toEqual(ENTRIES);
  for (const bytes of entries.values()) expect((bytes.byteOffset - archive.byteOffset) % 64).toBe(0);
});

test('an archive without entries', async () => {
  await writeZip(path, []);
  expect(readZip(readFileSync(path), path).size).toBe(0);
});

describe('refuses', () => {
  const changed = (change: (bytes: Buffer) => unknown) => {
    const bytes = Buffer.from(archive);
    change(bytes);
    return bytes;
  };
  const end = () => archive.length - END_BYTES;
  const secondEntry = () => directory + 46 + 'a/first'.length;

  test.each<[string, (bytes: Buffer) => unknown, RegExp]>([
    ['another end', (bytes) => bytes.writeUInt8(0, end()), /no zip archive/],
    ['several disks', (bytes) => bytes.writeUInt16LE(1, end() + 4), /part of several archives/],
    ['too many entries', (bytes) => bytes.fill(0xff, end() + 8, end() + 12), /65535 entries, more than 8192/],
    ['more entries than there are', (bytes) => bytes.fill('\x04\0\x04\0', end() + 8, end() + 12), /its directory is damaged/],
    ['a directory beyond the end', (bytes) => bytes.writeUInt32LE(2 ** 32 - 1, end() + 16), /lies outside/],
    ['a name that is too long', (bytes) => bytes.writeUInt16LE(513, directory + 28), /a name of 513 bytes/],
    ['a name beyond the directory', (bytes) => bytes.writeUInt16LE(400, directory + 28), /its directory is damaged/],
    ['compression', (bytes) => bytes.writeUInt16LE(8, directory + 10), /a\/first is compressed/],
    ['encryption', (bytes) => bytes.writeUInt16LE(1, directory + 8), /a\/first is encrypted/],
    ['two sizes', (bytes) => bytes.writeUInt32LE(4, directory + 20), /a\/first has two sizes/],
    ['a size of 4 GiB', (bytes) => bytes.fill(0xff, directory + 20, directory + 28), /a\/first reaches into what follows/],
    ['another place', (bytes) => bytes.writeUInt32LE(1, directory + 42), /not where the directory says/],
    ['a place beyond the end', (bytes) => bytes.writeUInt32LE(2 ** 32 - 1, directory + 42), /not where the directory says/],
    ['another name in its own header', (bytes) => bytes.writeUInt8(0x62, 30), /not where the directory says/],
    ['the same place twice', (bytes) => bytes.copy(bytes, secondEntry(), directory, secondEntry()), /reaches into what follows/],
    ['other content', (bytes) => bytes.writeUInt8(0, 64), /a\/first does not have the checksum/],
  ])('%s', (_what, change, message) => {
    const refusal = expect.objectContaining({ code: 'INVALID_CARTRIDGE', message: expect.stringMatching(message) });
    expect(() => readZip(changed(change), path)).toThrow(refusal);
  });

  test('two entries of one name', async () => {
    await writeZip(path, [ENTRIES[0]!, ENTRIES[0]!]);
    expect(() => readZip(readFileSync(path), path)).toThrow(/two of its entries have the same name/);
  });
});
