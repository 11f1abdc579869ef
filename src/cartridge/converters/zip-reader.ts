import { crc32 } from 'node:zlib';
import { invalidCheckpoint } from './invalid-checkpoint.js';

/**
 * The part of the zip format that `torch.save` writes: entries stored as they are, a central directory behind them, no comment.
 * Each entry is named once, lies before the directory and shares no byte with another one, so there is one way to read a file.
 */

const END_SIGNATURE = 0x06054b50;
const END_BYTES = 22;
const DIRECTORY_SIGNATURE = 0x02014b50;
const DIRECTORY_BYTES = 46;
const LOCAL_SIGNATURE = 0x04034b50;
const LOCAL_BYTES = 30;
const ENCRYPTED = 1;
const STORED = 0;
/** Four tensors for each of 1,024 layers, and what torch writes beside them. */
const MAX_ENTRIES = 8192;
const MAX_NAME_BYTES = 512;

interface DirectoryEntry {
  name: string;
  checksum: number;
  byteLength: number;
  /** Where the entry's own header begins, and where its data does. */
  offset: number;
  dataOffset: number;
}

/** The entries of an archive by name, as views of its bytes. Throws `INVALID_CARTRIDGE` with what is wrong. */
export function readZip(bytes: Uint8Array, path: string): Map<string, Uint8Array> {
  const archive = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const directory = findDirectory(archive, path);
  const entries = readDirectory(archive, directory, path);
  checkPlaces(entries, directory.start, path);
  return new Map(entries.map((entry) => [entry.name, contentOf(archive, entry, path)]));
}

interface Directory {
  entries: number;
  start: number;
  end: number;
}

function findDirectory(archive: Buffer, path: string): Directory {
  const at = archive.length - END_BYTES;
  if (at < 0 || archive.readUInt32LE(at) !== END_SIGNATURE)
    throw invalidCheckpoint(path, 'it is no zip archive, or it is cut off');
  const [disk, firstDisk, entries, allEntries] = [4, 6, 8, 10].map((offset) => archive.readUInt16LE(at + offset));
  if (disk !== 0 || firstDisk !== 0 || entries !== allEntries) throw invalidCheckpoint(path, 'it is a part of several archives');
  if (entries! > MAX_ENTRIES) throw invalidCheckpoint(path, `it has ${entries} entries, more than ${MAX_ENTRIES}`);
  const start = archive.readUInt32LE(at + 16);
  const end = start + archive.readUInt32LE(at + 12);
  // Sizes that need 64 bits stand here as 2³² − 1 and end beyond the file, which is held in memory.
  if (end > at) throw invalidCheckpoint(path, 'its directory lies outside of it');
  return { entries: entries!, start, end };
}

function readDirectory(archive: Buffer, { entries, start, end }: Directory, path: string): DirectoryEntry[] {
  let at = start;
  return Array.from({ length: entries }, () => {
    if (at + DIRECTORY_BYTES > end || archive.readUInt32LE(at) !== DIRECTORY_SIGNATURE) {
      throw invalidCheckpoint(path, 'its directory is damaged');
    }
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((offset) => archive.readUInt16LE(at + offset));
    if (nameBytes! > MAX_NAME_BYTES)
      throw invalidCheckpoint(path, `it has a name of ${nameBytes} bytes, more than ${MAX_NAME_BYTES}`);
    const nameEnd = at + DIRECTORY_BYTES + nameBytes!;
    if (nameEnd > end) throw invalidCheckpoint(path, 'its directory is damaged');
    const entry = readEntry(archive, at, archive.toString('utf8', at + DIRECTORY_BYTES, nameEnd), path);
    at = nameEnd + extraBytes! + commentBytes!;
    return entry;
  });
}

function readEntry(archive: Buffer, at: number, name: string, path: string): DirectoryEntry {
  const [flags, method] = [archive.readUInt16LE(at + 8), archive.readUInt16LE(at + 10)];
  if ((flags & ENCRYPTED) !== 0) throw invalidCheckpoint(path, `its entry ${name} is encrypted`);
  if (method !== STORED) throw invalidCheckpoint(path, `its entry ${name} is compressed, which torch.save does not do`);
  const byteLength = archive.readUInt32LE(at + 24);
  if (archive.readUInt32LE(at + 20) !== byteLength) throw invalidCheckpoint(path, `its entry ${name} has two sizes`);
  const offset = archive.readUInt32LE(at + 42);
  return {
    name,
    checksum: archive.readUInt32LE(at + 16),
    byteLength,
    offset,
    dataOffset: dataOffset(archive, offset, name, path),
  };
}

/** The entry's own header repeats the name and may be longer than what the directory says: its data is aligned by padding. */
function dataOffset(archive: Buffer, offset: number, name: string, path: string): number {
  if (offset + LOCAL_BYTES <= archive.length && archive.readUInt32LE(offset) === LOCAL_SIGNATURE) {
    const nameEnd = offset + LOCAL_BYTES + archive.readUInt16LE(offset + 26);
    if (archive.toString('utf8', offset + LOCAL_BYTES, nameEnd) === name) return nameEnd + archive.readUInt16LE(offset + 28);
  }
  throw invalidCheckpoint(path, `its entry ${name} is not where the directory says`);
}

function checkPlaces(entries: readonly DirectoryEntry[], directoryStart: number, path: string): void {
  const byPlace = [...entries].sort((a, b) => a.offset - b.offset);
  byPlace.forEach(({ name, dataOffset, byteLength }, index) => {
    const end = byPlace[index + 1]?.offset ?? directoryStart;
    if (dataOffset + byteLength > end) throw invalidCheckpoint(path, `its entry ${name} reaches into what follows it`);
  });
  const names = new Set(entries.map(({ name }) => name));
  if (names.size !== entries.length) throw invalidCheckpoint(path, 'two of its entries have the same name');
}

function contentOf(archive: Buffer, { name, dataOffset, byteLength, checksum }: DirectoryEntry, path: string): Uint8Array {
  const content = archive.subarray(dataOffset, dataOffset + byteLength);
  if (crc32(content) !== checksum) throw invalidCheckpoint(path, `its entry ${name} does not have the checksum that it names`);
  return content;
}
