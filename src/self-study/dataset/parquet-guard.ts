import type { ColumnMetaData, CompressionCodec, FileMetaData, SchemaTree } from 'hyparquet';
import { parquetSchema } from 'hyparquet';
import { parquetHeader } from 'hyparquet/src/column.js';
import { getMaxDefinitionLevel, getMaxRepetitionLevel, getTreePath } from 'hyparquet/src/schema.js';
import { decompressorFor } from './parquet-codecs.js';

/**
 * Checks a Parquet file before its reader allocates anything by the file's own numbers. hyparquet trusts the counts in page
 * headers and in run lengths; this walks them first and throws a plain Error that says which one is out of bounds. What it
 * cannot walk is refused: other encodings, and types whose values are programs for their reader.
 */

/** Most values, nulls included, in all columns of one row group: what a JavaScript heap can hold. */
const MAXIMUM_ROW_GROUP_VALUES = 1 << 26;

/** Most uncompressed bytes of one row group. */
const MAXIMUM_ROW_GROUP_BYTES = 2 ** 30;

const MAXIMUM_ROW_GROUPS = 65_536;

const MAXIMUM_SCHEMA_ELEMENTS = 4096;

/** Values that a bit-packed run may hold beyond those of its page: DuckDB fills its last one to 32. */
const MAXIMUM_RUN_PADDING = 512;

/** What our writer and pyarrow write by default; of the others, some let a few bytes ask for gigabytes. */
const BOOLEAN_ENCODINGS: readonly string[] = ['PLAIN', 'RLE'];
const ENCODINGS: readonly string[] = ['PLAIN', 'RLE_DICTIONARY', 'PLAIN_DICTIONARY'];

/** Types of which each value has a format of its own, with counts and offsets that hyparquet follows. */
const REFUSED_TYPES: readonly string[] = ['VARIANT', 'GEOMETRY', 'GEOGRAPHY'];

type PageHeader = ReturnType<typeof parquetHeader>;

export function checkMetadata(metadata: FileMetaData): void {
  const { schema, row_groups } = metadata;
  checkLimit('schema elements', schema.length, MAXIMUM_SCHEMA_ELEMENTS);
  checkLimit('row groups', row_groups.length, MAXIMUM_ROW_GROUPS);
  for (const { name, logical_type } of schema) {
    if (REFUSED_TYPES.includes(logical_type?.type ?? '')) throw new Error(`column ${name} has the type ${logical_type?.type}`);
  }
  const leaves = leafPaths(parquetSchema(metadata));
  if (leaves.length === 0) throw new Error('it has no columns');
  for (const { columns, num_rows } of row_groups) {
    checkColumns(columns, leaves);
    const values = columns.map((column) => Number(column.meta_data?.num_values));
    const sum = values.reduce((total, count) => total + count, 0);
    checkLimit('values of a row group', sum, MAXIMUM_ROW_GROUP_VALUES);
    checkLimit('rows of a row group', Number(num_rows), Math.min(...values));
  }
}

/** The paths of the columns that hold values, each as JSON, in the order of the schema. */
function leafPaths({ children }: SchemaTree): string[] {
  return children.flatMap((child) => (child.children.length > 0 ? leafPaths(child) : JSON.stringify(child.path)));
}

/** A column that is missing would have no values, and no number of rows would be too large for it. */
function checkColumns(columns: FileMetaData['row_groups'][number]['columns'], leaves: readonly string[]): void {
  const found = columns.map((column) => JSON.stringify(column.meta_data?.path_in_schema));
  if (found.length === leaves.length && found.every((path, index) => path === leaves[index])) return;
  throw new Error('a row group has other columns than the schema');
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

/**
 * Returns the values of a data page, and none for a dictionary, whose entries are no values. The type of a page decides which
 * of its headers counts, as it does for the reader: a page may have several.
 */
function checkPage({ header, content }: Page, column: ColumnMetaData, widths: LevelWidths): number {
  const { type, dictionary_page_header: dictionary, data_page_header: v1, data_page_header_v2: v2 } = header;
  if (type === 'DICTIONARY_PAGE' && dictionary) {
    checkLimit('dictionary entries', dictionary.num_values, MAXIMUM_ROW_GROUP_VALUES);
    return 0;
  }
  const counts = type === 'DATA_PAGE' ? v1 : type === 'DATA_PAGE_V2' ? v2 : undefined;
  if (!counts) throw new Error(`unknown page type ${type}`);
  const values = checkLimit('values of a page', counts.num_values, MAXIMUM_ROW_GROUP_VALUES);
  checkEncoding(counts.encoding, column);
  if (type === 'DATA_PAGE') checkVersion1({ header, content }, column.codec, widths);
  else checkVersion2({ header, content }, column.codec, widths);
  return values;
}

function checkEncoding(encoding: string, { type, path_in_schema }: ColumnMetaData): void {
  if ((type === 'BOOLEAN' ? BOOLEAN_ENCODINGS : ENCODINGS).includes(encoding)) return;
  throw new Error(`column ${path_in_schema.join('.')} has the encoding ${encoding}, which is not read for ${type}`);
}

function checkVersion1({ header, content }: Page, codec: CompressionCodec, widths: LevelWidths): void {
  const { num_values: values, encoding } = header.data_page_header as NonNullable<PageHeader['data_page_header']>;
  const page = viewOf(decompress(content, header.uncompressed_page_size, codec));
  let offset = 0;
  for (const width of [widths.repetition, widths.definition]) {
    if (width === 0) continue;
    checkRuns(page, offset + 4, width, values);
    offset += 4 + page.getUint32(offset, true);
  }
  checkValues(page, offset, encoding, values);
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
  checkValues(viewOf(plain), 0, v2.encoding, values - v2.num_nulls);
}

function decompress(content: Uint8Array, uncompressedBytes: number, codec: CompressionCodec): Uint8Array {
  checkLimit('bytes of a page', uncompressedBytes, MAXIMUM_ROW_GROUP_BYTES);
  return codec === 'UNCOMPRESSED' ? content : decompressorFor(codec)(content, uncompressedBytes);
}

/** Dictionary indices are one byte with their width, then runs; booleans a length of four bytes, then runs. */
function checkValues(page: DataView, offset: number, encoding: string, values: number): void {
  if (values === 0 || encoding === 'PLAIN') return;
  if (encoding === 'RLE') checkRuns(page, offset + 4, 1, values);
  else checkRuns(page, offset + 1, checkLimit('bits of a dictionary index', page.getUint8(offset), 32), values);
}

/**
 * Walks the headers of run-length and bit-packed runs up to the number of values or the end of the page. A run must not be
 * longer than the values; a bit-packed one may be padded.
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
    seen += isBitPacked
      ? checkLimit('values of a run', count * 8, values + MAXIMUM_RUN_PADDING)
      : checkLimit('values of a run', count, values);
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
