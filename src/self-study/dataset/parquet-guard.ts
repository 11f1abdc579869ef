import type { ColumnMetaData, CompressionCodec, FileMetaData, SchemaTree } from 'hyparquet';
import { parquetSchema } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { getMaxDefinitionLevel, getMaxRepetitionLevel, getTreePath } from 'hyparquet/src/schema.js';
import { decompressorFor } from './parquet-codecs.js';

/**
 * Checks a Parquet file before its reader allocates anything by the file's own numbers. hyparquet trusts the counts in page
 * headers and in run lengths; this walks them first and throws a plain Error that says which one is out of bounds.
 */

/** Most values, nulls included, in all columns of one row group: what a JavaScript heap can hold. */
const MAXIMUM_ROW_GROUP_VALUES = 1 << 26;

/** Most uncompressed bytes of one row group. */
const MAXIMUM_ROW_GROUP_BYTES = 2 ** 30;

const MAXIMUM_ROW_GROUPS = 65_536;

const MAXIMUM_SCHEMA_ELEMENTS = 4096;

type PageHeader = ReturnType<typeof parquetHeader>;

export function checkMetadata({ schema, row_groups }: FileMetaData): void {
  checkLimit('schema elements', schema.length, MAXIMUM_SCHEMA_ELEMENTS);
  checkLimit('row groups', row_groups.length, MAXIMUM_ROW_GROUPS);
  for (const { columns, num_rows } of row_groups) {
    const values = columns.map((column) => Number(column.meta_data?.num_values));
    const sum = values.reduce((total, count) => total + count, 0);
    checkLimit('values of a row group', sum, MAXIMUM_ROW_GROUP_VALUES);
    checkLimit('rows of a row group', Number(num_rows), Math.min(...values));
  }
}

/** Walks every page of a row group. */
export function checkRowGroup(bytes: Uint8Array, metadata: FileMetaData, group: FileMetaData['row_groups'][number]): void {
  const tree = parquetSchema(metadata);
  let uncompressed = 0;
  for (const { meta_data: column } of group.columns) {
    if (!column) throw new Error('a column has no metadata');
    const levels = levelWidths(getTreePath(tree, column.path_in_schema));
    let values = 0;
    for (const page of pagesOf(bytes, column)) {
      uncompressed += checkLimit('bytes of a page', page.header.uncompressed_page_size, MAXIMUM_ROW_GROUP_BYTES);
      checkLimit('uncompressed bytes of a row group', uncompressed, MAXIMUM_ROW_GROUP_BYTES);
      values += checkPage(page, column, levels);
      checkLimit(`values of column ${column.path_in_schema.join('.')}`, values, Number(column.num_values));
    }
  }
}

interface Page {
  header: PageHeader;
  content: Uint8Array;
}

interface LevelWidths {
  repetition: number;
  definition: number;
}

function levelWidths(path: SchemaTree[]): LevelWidths {
  const bits = (level: number) => 32 - Math.clz32(level);
  return { repetition: bits(getMaxRepetitionLevel(path)), definition: bits(getMaxDefinitionLevel(path)) };
}

function* pagesOf(bytes: Uint8Array, column: ColumnMetaData): Iterable<Page> {
  const start = Number(column.dictionary_page_offset || column.data_page_offset);
  const chunk = viewOf(bytes, start, Number(column.total_compressed_size));
  const reader = { view: chunk, offset: 0 };
  while (reader.offset < chunk.byteLength - 1) {
    const header = parquetHeader(reader);
    const size = checkLimit('bytes of a page', header.compressed_page_size, chunk.byteLength - reader.offset);
    yield { header, content: new Uint8Array(chunk.buffer, chunk.byteOffset + reader.offset, size) };
    reader.offset += size;
  }
}

/** Returns the values of a data page, and none for a dictionary, whose entries are no values. */
function checkPage({ header, content }: Page, column: ColumnMetaData, widths: LevelWidths): number {
  const { dictionary_page_header: dictionary, data_page_header: v1, data_page_header_v2: v2 } = header;
  if (dictionary) {
    checkLimit('dictionary entries', dictionary.num_values, MAXIMUM_ROW_GROUP_VALUES);
    return 0;
  }
  const counts = v1 ?? v2;
  if (!counts) throw new Error(`unknown page type ${header.type}`);
  const values = checkLimit('values of a page', counts.num_values, MAXIMUM_ROW_GROUP_VALUES);
  if (v2) {
    checkVersion2({ header, content }, column.codec, widths);
  } else {
    const page = viewOf(decompress(content, header.uncompressed_page_size, column.codec));
    let offset = 0;
    for (const width of [widths.repetition, widths.definition]) {
      if (width === 0) continue;
      checkRuns(page, offset + 4, width, values);
      offset += 4 + page.getUint32(offset, true);
    }
    checkIndices(page, offset, counts.encoding, values);
  }
  return values;
}

function checkVersion2({ header, content }: Page, codec: CompressionCodec, widths: LevelWidths): void {
  const v2 = header.data_page_header_v2 as NonNullable<PageHeader['data_page_header_v2']>;
  const { repetition_levels_byte_length: repetition, definition_levels_byte_length: definition, num_values: values } = v2;
  const page = viewOf(content);
  checkLimit('null values', v2.num_nulls, values);
  const levels =
    checkLimit('bytes of levels', repetition, page.byteLength) + checkLimit('bytes of levels', definition, page.byteLength);
  if (widths.repetition > 0) checkRuns(page, 0, widths.repetition, values);
  if (widths.definition > 0) checkRuns(page, repetition, widths.definition, values);
  const data = content.subarray(levels);
  const plain = v2.is_compressed === false ? data : decompress(data, header.uncompressed_page_size - levels, codec);
  checkIndices(viewOf(plain), 0, v2.encoding, values - v2.num_nulls);
}

function decompress(content: Uint8Array, uncompressedBytes: number, codec: CompressionCodec): Uint8Array {
  checkLimit('bytes of a page', uncompressedBytes, MAXIMUM_ROW_GROUP_BYTES);
  return codec === 'UNCOMPRESSED' ? content : decompressorFor(codec)(content, uncompressedBytes);
}

/** Dictionary indices: one byte with their width, then runs. */
function checkIndices(page: DataView, offset: number, encoding: string, values: number): void {
  if (values === 0 || !encoding.endsWith('_DICTIONARY')) return;
  const width = checkLimit('bits of a dictionary index', page.getUint8(offset), 32);
  if (width > 0) checkRuns(page, offset + 1, width, values);
}

/**
 * Walks the headers of run-length and bit-packed runs up to the number of values or the end of the page. A run-length run
 * must not be longer than the values; of a bit-packed one the reader takes no more than it needs.
 */
function checkRuns(page: DataView, start: number, width: number, values: number): void {
  let offset = start;
  for (let seen = 0; seen < values && offset < page.byteLength; ) {
    let header = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = page.getUint8(offset++);
      header += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    const count = Math.floor(header / 2);
    const isBitPacked = header % 2 === 1;
    seen += isBitPacked ? count * 8 : checkLimit('values of a run', count, values);
    offset += isBitPacked ? count * width : Math.ceil(width / 8);
  }
}

function viewOf(bytes: Uint8Array, start = 0, length = bytes.byteLength): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset + start, length);
}

function checkLimit(what: string, value: number, limit: number): number {
  if (value >= 0 && value <= limit) return value;
  throw new Error(`${what}: ${value} is not between 0 and ${limit}`);
}
