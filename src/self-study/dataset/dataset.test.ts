import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { type FileMetaData, parquetMetadata, type SchemaElement } from 'hyparquet';
import { ByteWriter, ParquetWriter, parquetWriteBuffer } from 'hyparquet-writer';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GOLDEN_FOLDER } from '../../../test/support/golden.js';
import { CartridgesError } from '../../core/errors.js';
import { Random } from '../../core/random.js';
import type { Conversation } from '../conversation.js';
import { DatasetWriter } from './dataset-writer.js';
import { type DatasetRecipe, sumCounts } from './manifest.js';
import { encodeNative } from './native-format.js';
import { loadConversations, openDataset } from './open-dataset.js';
import { openParquet, type ParquetRow } from './parquet-file.js';
import { encodeUpstream } from './upstream-format.js';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dataset-'));
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

async function loadBytes(bytes: Uint8Array): Promise<Conversation[]> {
  const path = join(folder, 'file.parquet');
  await writeFile(path, bytes);
  return loadConversations(await openDataset(path));
}

const conversation: Conversation = {
  id: '000007',
  messages: [
    { role: 'user', content: 'Who is "Ada"? 🐝\n' },
    {
      role: 'assistant',
      content: 'Ada.',
      tokenIds: Int32Array.of(4, 2_000_000_000),
      topLogprobs: {
        tokenIndex: Int32Array.of(0, 0, 1),
        tokenId: Int32Array.of(4, 5, 2_000_000_000),
        logprob: Float32Array.of(-0.25, -2, Number.NEGATIVE_INFINITY),
        rows: 2,
        k: 20,
      },
    },
    { role: 'user', content: '' },
    { role: 'assistant', content: 'Plain.', tokenIds: new Int32Array() },
  ],
  systemPrompt: 'Text: $&',
  type: 'question',
  metadata: { seedPrompt: 'Ask.', chunkId: 'a.txt:0-4', nested: { list: [1, 2.5, null], flag: true } },
};

const plain: Conversation = {
  id: '000008',
  messages: [{ role: 'user', content: 'Why?' }],
  systemPrompt: '',
  type: 'creative',
  metadata: { seedPrompt: '' },
};

describe('the packed layout', () => {
  it('gives back what was written', async () => {
    expect(await loadBytes(encodeNative([conversation, plain]))).toEqual([conversation, plain]);
  });

  it('holds no conversations, too', async () => {
    expect(await loadBytes(encodeNative([]))).toEqual([]);
  });

  it('gives back any conversation', async () => {
    const message = fc.record(
      {
        role: fc.constantFrom('user' as const, 'assistant' as const, 'system' as const),
        content: fc.string({ unit: 'grapheme' }),
        tokenIds: fc.array(fc.nat(), { maxLength: 9 }).map((ids) => Int32Array.from(ids)),
      },
      { requiredKeys: ['role', 'content'] },
    );
    const arbitrary = fc.array(fc.array(message, { maxLength: 4 }), { maxLength: 9 });
    await fc.assert(
      fc.asyncProperty(arbitrary, async (messages) => {
        const conversations = messages.map((turns, n) => ({ ...plain, id: `${n}`, messages: turns }));
        expect(await loadBytes(encodeNative(conversations))).toEqual(conversations);
      }),
      { numRuns: 60 },
    );
  });

  it.each([
    ['token_ids', 'ends too early', { token_ids: new Uint8Array(4) }],
    ['logprobs', 'is longer', { logprobs: new Uint8Array(16) }],
    ['messages', 'role', { messages: '[{"role":"tool","content":""}]' }],
    ['messages', 'JSON', { messages: '[' }],
    ['metadata', 'seedPrompt', { metadata: '{}' }],
    ['logprob_token_index', 'belongs to row', { logprob_token_index: new Uint8Array(Int32Array.of(0, 2, 3).buffer) }],
    ['logprob_token_id', 'outside the vocabulary', { logprob_token_id: new Uint8Array(Int32Array.of(-1, 2, 3).buffer) }],
    ['logprobs', 'not a number', { logprobs: new Uint8Array(Float32Array.of(Number.NaN, -1, -1).buffer) }],
  ])('refuses a wrong %s: %s', async (_column, message, change) => {
    const bytes = encodeNative([conversation]);
    const { schema } = parquetMetadata(bytes);
    const row: ParquetRow = { ...(await readFirstRow(bytes)), ...change };
    const columnData = schema.slice(1).map(({ name }) => ({ name, data: [row[name]] }));
    const changed = new Uint8Array(parquetWriteBuffer({ columnData, schema }));
    await expect(loadBytes(changed)).rejects.toMatchObject({
      code: 'INVALID_DATASET',
      message: expect.stringContaining(message),
    });
  });
});

async function readFirstRow(bytes: Uint8Array): Promise<ParquetRow> {
  for await (const [row] of openParquet(bytes, 'test').rowGroups()) return row;
  throw new Error('no row');
}

interface GoldenMessage {
  content: string;
  role: string;
  token_ids: number[] | null;
  top_logprobs: { token_idx: number[]; token_id: number[]; logprobs: number[]; shape: [number, number] } | null;
}

interface GoldenRow {
  messages: GoldenMessage[];
  system_prompt: string;
  type: string;
  metadata: { seed_prompt: string };
}

async function readGolden(name: string): Promise<GoldenRow[]> {
  return JSON.parse(await readFile(join(GOLDEN_FOLDER, `${name}.json`), 'utf8')).rows;
}

/** A conversation in the words of the golden JSON; floats rounded to 32 bits. */
function toGoldenRow({ messages, systemPrompt, type, metadata: { seedPrompt, ...metadata } }: Conversation): GoldenRow {
  return {
    messages: messages.map(({ content, role, tokenIds, topLogprobs: top }) => ({
      content,
      role,
      token_ids: tokenIds ? [...tokenIds] : null,
      top_logprobs: top
        ? { token_idx: [...top.tokenIndex], token_id: [...top.tokenId], logprobs: [...top.logprob], shape: [top.rows, top.k] }
        : null,
    })),
    system_prompt: systemPrompt,
    type,
    metadata: { ...metadata, seed_prompt: seedPrompt },
  };
}

function roundFloats(rows: GoldenRow[]): GoldenRow[] {
  for (const { top_logprobs } of rows.flatMap((row) => row.messages)) {
    if (top_logprobs) top_logprobs.logprobs = top_logprobs.logprobs.map(Math.fround);
  }
  return rows;
}

describe.each(['upstream-dataset', 'upstream-dataset-tools', 'upstream-dataset-text'])('%s of the Python project', (name) => {
  it('is read', async () => {
    const dataset = await openDataset(join(GOLDEN_FOLDER, `${name}.parquet`));
    const conversations = await loadConversations(dataset);
    expect(conversations.map(toGoldenRow)).toEqual(roundFloats(await readGolden(name)));
    expect(dataset.conversationCount).toBe(conversations.length);
    expect(conversations[0].id).toBe(`${name}.parquet#0`);
  });

  it('is the same after writing it in the same schema, and after our own', async () => {
    const conversations = await loadConversations(await openDataset(join(GOLDEN_FOLDER, `${name}.parquet`)));
    const golden = roundFloats(await readGolden(name));
    expect((await loadBytes(encodeUpstream(conversations))).map(toGoldenRow)).toEqual(golden);
    expect(await loadBytes(encodeNative(conversations))).toEqual(conversations);
  });
});

describe('writing the schema of the Python project', () => {
  it('has its columns and types', async () => {
    const conversations = await loadConversations(await openDataset(join(GOLDEN_FOLDER, 'upstream-dataset.parquet')));
    const theirs = parquetMetadata(await readFile(join(GOLDEN_FOLDER, 'upstream-dataset.parquet')));
    const ours = parquetMetadata(encodeUpstream(conversations));
    const describeElement = ({
      name,
      type,
      repetition_type,
      num_children,
      converted_type,
      logical_type,
    }: (typeof ours)['schema'][0]) => ({
      name,
      type,
      repetition: repetition_type ?? 'REQUIRED',
      children: num_children,
      converted: converted_type,
      null: logical_type?.type === 'NULL',
    });
    const sorted = (metadata: typeof ours) => metadata.schema.map(describeElement).sort((a, b) => (a.name < b.name ? -1 : 1));
    expect(sorted(ours)).toEqual(sorted(theirs));
    expect(ours.row_groups[0].columns.every((column) => column.meta_data?.codec === 'SNAPPY')).toBe(true);
  });

  it('keeps metadata of any form, with null for a field that a row does not have', async () => {
    const mixed = [
      { ...plain, metadata: { seedPrompt: 'a', list: [1, 2], deep: { x: 1.5 }, either: 'text', none: {} } },
      { ...plain, metadata: { seedPrompt: 'b', list: [], deep: { x: 2, y: [{ z: true }] }, either: 7 } },
    ];
    const [a, b] = (await loadBytes(encodeUpstream(mixed))).map(({ metadata }) => metadata);
    expect(a).toMatchObject({ seedPrompt: 'a', list: [1, 2], deep: { x: 1.5, y: null }, either: 'text', none: null });
    expect(b).toMatchObject({ seedPrompt: 'b', list: [], deep: { x: 2, y: [{ z: true }] }, either: '7' });
  });
});

describe('a dataset folder', () => {
  const recipe: DatasetRecipe = {
    settings: { a: 1 },
    teacher: {},
    computation: { threads: 1 },
    prompts: { hash: '' },
    chunks: { count: 1, hash: '' },
  };
  const summary = { groups: 1, counts: { ...sumCounts([]), attempted: 2, kept: 1 }, failures: [] };

  async function writeFolder(): Promise<string> {
    const path = join(folder, 'set');
    const writer = await DatasetWriter.open(path, recipe);
    await writer.appendShard([conversation], summary);
    await writer.appendShard([plain], summary);
    return path;
  }

  it('is read shard by shard, finished or not', async () => {
    const path = await writeFolder();
    const dataset = await openDataset(path);
    expect(dataset).toMatchObject({ conversationCount: 2, manifest: { complete: false, counts: { attempted: 4, kept: 2 } } });
    expect(await loadConversations(dataset)).toEqual([conversation, plain]);
    await (await DatasetWriter.open(path, recipe)).finish();
    const finished = await openDataset(path);
    expect(finished.manifest?.complete).toBe(true);
    expect(finished.contentHash).toBe(dataset.contentHash);
  });

  it('is continued by what computed it alone, and once complete taken by any other', async () => {
    const path = await writeFolder();
    const other = { ...recipe, computation: { threads: 2 } };
    await expect(DatasetWriter.open(path, other)).rejects.toMatchObject({
      code: 'SETTINGS_CHANGED',
      message: expect.stringContaining('computation.threads is 2 and was 1'),
    });
    await (await DatasetWriter.open(path, recipe)).finish();
    expect((await DatasetWriter.open(path, other)).manifest.recipe.computation).toEqual({ threads: 1 });
    await expect(DatasetWriter.open(path, { ...other, settings: { a: 2 } })).rejects.toMatchObject({ code: 'SETTINGS_CHANGED' });
  });

  it('with a changed shard is refused', async () => {
    const path = await writeFolder();
    const shard = join(path, 'shard-00001.parquet');
    const bytes = await readFile(shard);
    bytes[20] ^= 1;
    await writeFile(shard, bytes);
    await expect(openDataset(path)).rejects.toMatchObject({
      code: 'INVALID_DATASET',
      message: expect.stringContaining('shard-00001.parquet'),
    });
  });

  it.each([
    ['a path', { name: '../secret.parquet' }],
    ['a negative count', { conversations: -1 }],
  ])('whose manifest has %s is refused', async (_what, change) => {
    const path = await writeFolder();
    const manifest = JSON.parse(await readFile(join(path, 'manifest.json'), 'utf8'));
    Object.assign(manifest.shards[0], change);
    await writeFile(join(path, 'manifest.json'), JSON.stringify(manifest));
    await expect(openDataset(path)).rejects.toMatchObject({ code: 'INVALID_DATASET' });
  });

  it('without a manifest, and a path that is not there, are named', async () => {
    await expect(openDataset(folder)).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
    await expect(openDataset(join(folder, 'none'))).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
  });

  it('stops reading on an abort', async () => {
    const dataset = await openDataset(await writeFolder());
    await expect(loadConversations(dataset, AbortSignal.abort())).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});

describe('damaged files', () => {
  /** Changes, cuts or repeats a few bytes. */
  function damage(original: Uint8Array, random: Random): Uint8Array {
    const bytes = Uint8Array.from(original);
    for (let n = 1 + random.integer(4); n > 0; n--) {
      // Half of the changes hit the footer, where the sizes are.
      const from = random.uniform() < 0.5 ? Math.max(0, bytes.length - 1500) : 0;
      const at = from + random.integer(bytes.length - from);
      if (random.uniform() < 0.3) bytes.fill(random.pick([0, 0x7f, 0xff]), at, at + 1 + random.integer(8));
      else bytes[at] = random.integer(256);
    }
    return random.uniform() < 0.1 ? bytes.subarray(0, random.integer(bytes.length)) : bytes;
  }

  it.each([
    ['packed', () => encodeNative([conversation, plain])],
    ['nested', () => readFile(join(GOLDEN_FOLDER, 'upstream-dataset.parquet'))],
    [
      'nested, written by us',
      async () =>
        encodeUpstream(await loadConversations(await openDataset(join(GOLDEN_FOLDER, 'upstream-dataset-tools.parquet')))),
    ],
  ])('of the %s layout give an error of ours or conversations', async (_what, make) => {
    const original = new Uint8Array(await make());
    const random = new Random(11);
    let refused = 0;
    for (let run = 0; run < 400; run++) {
      await loadBytes(damage(original, random)).catch((error) => {
        if (!CartridgesError.is(error) || error.code !== 'INVALID_DATASET') throw error;
        refused++;
      });
    }
    expect(refused).toBeGreaterThan(100);
  });

  async function readAll(bytes: Uint8Array): Promise<ParquetRow[]> {
    const all: ParquetRow[] = [];
    for await (const rows of openParquet(bytes, 'test').rowGroups()) all.push(...rows);
    return all;
  }

  const refusal = (what: string) => ({ code: 'INVALID_DATASET', message: expect.stringContaining(what) });

  /** A file of one column, not compressed. */
  const writeColumn = (column: Omit<Parameters<typeof parquetWriteBuffer>[0]['columnData'][number], 'name'>) =>
    Buffer.from(parquetWriteBuffer({ columnData: [{ name: 'n', ...column }], codec: 'UNCOMPRESSED', statistics: false }));

  function replaceBytes(bytes: Buffer, original: number[], changed: number[]): Buffer {
    const at = bytes.indexOf(Buffer.from(original));
    expect(at).toBeGreaterThan(0);
    bytes.set(changed, at);
    return bytes;
  }

  const integers = () => writeColumn({ data: Array.from({ length: 64 }, (_, n) => (n % 2 === 0 ? n : null)), type: 'INT32' });
  const booleans = () => writeColumn({ data: Array.from({ length: 64 }, (_, n) => n % 2 === 0), type: 'BOOLEAN' });
  const words = () => writeColumn({ data: Array.from({ length: 64 }, (_, n) => 'ab'[n % 2]), encoding: 'RLE_DICTIONARY' });

  it.each<[string, string, () => Buffer, number[], number[]]>([
    // A page header opens with its type, then uncompressed bytes: 0x15 0x06 0x15 0x90 0x02 and so on.
    ['page', 'bytes of a page', integers, [0x15, 0x06, 0x15], [0x15, 0x06, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f]],
    // 64 alternating levels or values, bit-packed; a run of a million of them in their place.
    ['levels', 'values of a run', integers, [0x11, 0x55, 0x55, 0x55], [0x80, 0x80, 0x80, 0x01]],
    ['booleans', 'values of a run', booleans, [0x11, 0x55, 0x55, 0x55], [0x80, 0x80, 0x80, 0x01]],
    ['indices of no bits', 'values of a run', words, [0x01, 0x11, 0xaa, 0xaa, 0xaa], [0x00, 0x80, 0x80, 0x80, 0x01]],
    [
      'indices that the reader counts as none',
      'values of a run',
      words,
      [0x11, 0xaa, 0xaa, 0xaa, 0xaa],
      [0x81, 0x80, 0x80, 0x80, 0x04],
    ],
  ])('are refused before memory is taken for their %s', async (_where, what, write, original, changed) => {
    expect(await readAll(write())).toHaveLength(64);
    await expect(readAll(replaceBytes(write(), original, changed))).rejects.toMatchObject(refusal(what));
  });

  it('are refused by the header that the type of the page names, whatever others it has', async () => {
    const bytes = replaceBytes(booleans(), [0x11, 0x55, 0x55, 0x55], [0x80, 0x80, 0x80, 0x01]);
    // Field 8 is the header of the page; field 7, of a dictionary without entries, is put before it.
    const at = bytes.indexOf(0x5c);
    const both = [0x4c, 0x15, 0x00, 0x15, 0x00, 0x00, 0x1c];
    const changed = Buffer.concat([bytes.subarray(0, at), Buffer.from(both), bytes.subarray(at + 1)]);
    const size = parquetMetadata(bytes).row_groups[0].columns[0].meta_data?.total_compressed_size as bigint;
    const field = (value: bigint) => [0x16, Number(value * 2n), 0x26];
    const footer = changed.lastIndexOf(Buffer.from(field(size)));
    changed.set(field(size + 6n), footer);
    await expect(readAll(changed)).rejects.toMatchObject(refusal('values of a run'));
  });

  it.each([
    ['DELTA_BINARY_PACKED', { data: [1, 2, 3], type: 'INT32' }],
    ['BYTE_STREAM_SPLIT', { data: [1, 2, 3], type: 'FLOAT' }],
    ['DELTA_LENGTH_BYTE_ARRAY', { data: ['a', 'b'] }],
    ['DELTA_BYTE_ARRAY', { data: ['a', 'b'] }],
  ] as const)('of the encoding %s are refused', async (encoding, column) => {
    await expect(readAll(writeColumn({ ...column, data: [...column.data], encoding }))).rejects.toMatchObject(refusal(encoding));
  });

  const required = (name: string): SchemaElement => ({ name, type: 'INT32', repetition_type: 'REQUIRED' });

  /** A file of two columns whose row groups were changed before its metadata are written. */
  function writeGroups(change: (groups: FileMetaData['row_groups']) => void, schema = ['a', 'b'].map(required)): Uint8Array {
    const writer = new ByteWriter();
    const file = new ParquetWriter({ writer, schema: [{ name: 'root', num_children: schema.length }, ...schema] });
    file.write({ columnData: schema.map(({ name }) => ({ name, data: [1, 2, 3] })) });
    change(file.row_groups);
    file.finish();
    return new Uint8Array(writer.getBuffer());
  }

  it.each<[string, (groups: FileMetaData['row_groups']) => void]>([
    ['no columns', ([group]) => group.columns.splice(0)],
    ['a column too few', ([group]) => group.columns.pop()],
    ['a column twice', ([group]) => group.columns.splice(1, 1, group.columns[0])],
    ['another order', ([group]) => group.columns.reverse()],
  ])('of which a row group has %s are refused', async (_what, change) => {
    expect(await readAll(writeGroups(() => {}))).toHaveLength(3);
    expect(() => openParquet(writeGroups(change), 'test')).toThrow(expect.objectContaining(refusal('other columns')));
  });

  it('without any column are refused, whatever number of rows they claim', () => {
    const group = { columns: [], total_byte_size: 0n, num_rows: 3n };
    const bytes = writeGroups((groups) => groups.splice(0, groups.length, group), []);
    expect(() => openParquet(bytes, 'test')).toThrow(expect.objectContaining(refusal('no columns')));
  });

  it('of a type whose values have a format of their own are refused', () => {
    const bytes = parquetWriteBuffer({ columnData: [{ name: 'n', data: [[1], [2]], type: 'VARIANT' }] });
    expect(() => openParquet(new Uint8Array(bytes), 'test')).toThrow(expect.objectContaining(refusal('VARIANT')));
  });

  it('that hold other columns are named', async () => {
    const other = new Uint8Array(parquetWriteBuffer({ columnData: [{ name: 'price', data: [1, 2] }] }));
    await expect(loadBytes(other)).rejects.toMatchObject({
      code: 'INVALID_DATASET',
      message: expect.stringContaining('price'),
    });
  });
});
