import { open } from 'node:fs/promises';
import { type FileMetaData, parquetMetadata, parquetReadObjects, parquetSchema } from 'hyparquet';
import { CartridgesError, toCartridgesError } from '../../core/errors.js';
import { compressors } from './parquet-codecs.js';
import { checkMetadata, checkRowGroup } from './parquet-guard.js';

/** Largest Parquet file that is read; it is held in memory, its rows one row group at a time. */
const MAXIMUM_PARQUET_BYTES = 2 ** 31;

export type ParquetRow = Record<string, unknown>;

/** A Parquet file in memory whose metadata was checked. */
export interface ParquetFile {
  /** Names of the top-level columns. */
  columns: string[];
  rowCount: number;
  /** Rows of one row group after the other. Strings are decoded where the file says so, other byte arrays stay bytes. */
  rowGroups(): AsyncIterable<ParquetRow[]>;
}

/** Bytes of a Parquet file. Throws `FILE_NOT_FOUND`, or `INVALID_DATASET` above `MAXIMUM_PARQUET_BYTES`. */
export async function readParquetBytes(path: string, signal?: AbortSignal): Promise<Uint8Array> {
  try {
    const handle = await open(path);
    try {
      const { size } = await handle.stat();
      if (size > MAXIMUM_PARQUET_BYTES) throw invalid(path, new Error(`${size} bytes are more than ${MAXIMUM_PARQUET_BYTES}`));
      return await handle.readFile({ signal });
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw toCartridgesError(error);
  }
}

/** Reads the metadata of a Parquet file. `where` names it in errors, which all are `INVALID_DATASET`, also those of reading rows. */
export function openParquet(bytes: Uint8Array, where: string): ParquetFile {
  try {
    const metadata = parquetMetadata(bytes, { geoparquet: false });
    checkMetadata(metadata);
    const columns = parquetSchema(metadata).children.map((child) => child.element.name);
    const rowCount = metadata.row_groups.reduce((sum, group) => sum + Number(group.num_rows), 0);
    return { columns, rowCount, rowGroups: () => readRowGroups(bytes, metadata, where) };
  } catch (error) {
    throw invalid(where, error);
  }
}

async function* readRowGroups(bytes: Uint8Array, metadata: FileMetaData, where: string): AsyncIterable<ParquetRow[]> {
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    if (rowEnd > rowStart) yield await readRowGroup(bytes, metadata, group, { rowStart, rowEnd }, where);
    rowStart = rowEnd;
  }
}

async function readRowGroup(
  bytes: Uint8Array,
  metadata: FileMetaData,
  group: FileMetaData['row_groups'][number],
  range: { rowStart: number; rowEnd: number },
  where: string,
): Promise<ParquetRow[]> {
  try {
    checkRowGroup(bytes, metadata, group);
    return await parquetReadObjects({ file: toAsyncBuffer(bytes), metadata, compressors, utf8: false, ...range });
  } catch (error) {
    throw invalid(where, error);
  }
}

function toAsyncBuffer(bytes: Uint8Array) {
  return {
    byteLength: bytes.byteLength,
    slice: (start: number, end?: number): ArrayBuffer => new Uint8Array(bytes.subarray(start, end)).buffer,
  };
}

function invalid(where: string, cause: unknown): CartridgesError {
  if (CartridgesError.is(cause)) return cause;
  return new CartridgesError('INVALID_DATASET', `${where} is damaged or not a dataset: ${(cause as Error).message}`, {
    hint: 'fetch or synthesize it again; a file of another program may need smaller row groups',
    cause,
  });
}
