import { crc32 } from 'node:zlib';
import { CartridgesError } from '../../core/errors.js';
import { replaceFile } from '../../core/files.js';

/** Writes the same part of the zip format that `zip-reader.ts` reads, the data of each entry aligned as torch aligns it. */

const LOCAL_SIGNATURE = 0x04034b50;
const LOCAL_BYTES = 30;
const DIRECTORY_SIGNATURE = 0x02014b50;
const DIRECTORY_BYTES = 46;
const END_SIGNATURE = 0x06054b50;
const END_BYTES = 22;
/** Version of the format that a reader needs: 2.0; and the bit that says that names are UTF-8. */
const VERSION = 20;
const UTF8_NAMES = 0x800;
/** A zip without times: 1 January 1980, the first day of the format. */
const FIRST_DAY = 0x21;
const ALIGNMENT = 64;
/** `FB`, torch's mark on its padding, and the bytes of mark and length. */
const PADDING_MARK = 0x4246;
const PADDING_HEAD_BYTES = 4;
const MAX_BYTES = 2 ** 32 - 1;

export interface ZipEntry {
  name: string;
  bytes: Uint8Array;
}

interface WrittenEntry {
  name: Buffer;
  checksum: number;
  byteLength: number;
  offset: number;
}

/** Writes entries atomically, one at a time. Throws `INVALID_INPUT` when they take more than 4 GiB, and `DISK_FULL`. */
export async function writeZip(path: string, entries: Iterable<ZipEntry>): Promise<void> {
  await replaceFile(path, async (file) => {
    const written: WrittenEntry[] = [];
    let offset = 0;
    for (const { name, bytes } of entries) {
      const entry = { name: Buffer.from(name), checksum: crc32(bytes), byteLength: bytes.length, offset };
      const header = localHeader(entry);
      offset += header.length + bytes.length;
      if (offset > MAX_BYTES) throw tooLarge(path);
      await file.writeFile(header);
      await file.writeFile(bytes);
      written.push(entry);
    }
    const directory = Buffer.concat(written.map(directoryHeader));
    await file.writeFile(directory);
    await file.writeFile(endRecord(written.length, offset, directory.length));
  });
}

function localHeader(entry: WrittenEntry): Buffer {
  const nameEnd = LOCAL_BYTES + entry.name.length;
  const unaligned = entry.offset + nameEnd + PADDING_HEAD_BYTES;
  const padding = (ALIGNMENT - (unaligned % ALIGNMENT)) % ALIGNMENT;
  const header = Buffer.alloc(nameEnd + PADDING_HEAD_BYTES + padding);
  header.writeUInt32LE(LOCAL_SIGNATURE, 0);
  header.writeUInt16LE(VERSION, 4);
  writeFacts(header, 6, entry);
  header.writeUInt16LE(header.length - nameEnd, 28);
  entry.name.copy(header, LOCAL_BYTES);
  header.writeUInt16LE(PADDING_MARK, nameEnd);
  header.writeUInt16LE(padding, nameEnd + 2);
  return header;
}

function directoryHeader(entry: WrittenEntry): Buffer {
  const header = Buffer.alloc(DIRECTORY_BYTES);
  header.writeUInt32LE(DIRECTORY_SIGNATURE, 0);
  header.writeUInt16LE(VERSION, 4);
  header.writeUInt16LE(VERSION, 6);
  writeFacts(header, 8, entry);
  header.writeUInt32LE(entry.offset, 42);
  return Buffer.concat([header, entry.name]);
}

/** What both headers say: flags, method 0 (stored), time and day, checksum, both sizes, length of the name. */
function writeFacts(header: Buffer, at: number, { checksum, byteLength, name }: WrittenEntry): void {
  header.writeUInt16LE(UTF8_NAMES, at);
  header.writeUInt16LE(FIRST_DAY, at + 6);
  header.writeUInt32LE(checksum, at + 8);
  header.writeUInt32LE(byteLength, at + 12);
  header.writeUInt32LE(byteLength, at + 16);
  header.writeUInt16LE(name.length, at + 20);
}

function endRecord(entries: number, directoryStart: number, directoryBytes: number): Buffer {
  const record = Buffer.alloc(END_BYTES);
  record.writeUInt32LE(END_SIGNATURE, 0);
  record.writeUInt16LE(entries, 8);
  record.writeUInt16LE(entries, 10);
  record.writeUInt32LE(directoryBytes, 12);
  record.writeUInt32LE(directoryStart, 16);
  return record;
}

function tooLarge(path: string): CartridgesError {
  return new CartridgesError('INVALID_INPUT', `${path} would take more than 4 GiB, the most of a plain zip`, {
    hint: 'such a cartridge cannot be exported as .pt',
  });
}
