import type { SchemaElement } from 'hyparquet';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { z } from 'zod';
import { CartridgesError } from '../../core/errors.js';
import type { Message } from '../../core/message.js';
import type { Conversation } from '../conversation.js';
import { checkMessage } from './check-message.js';
import type { ParquetRow } from './parquet-file.js';

/**
 * The packed layout of our own shards: one row a conversation. `messages` is JSON that gives role, content and counts of
 * each message; the numbers of all its messages stand one after the other in four columns of little-endian 32-bit words.
 * Reading it costs a copy, where nested lists cost a visit to every value.
 */

const TEXT_COLUMNS = ['id', 'type', 'system_prompt', 'messages', 'metadata'] as const;
const PACKED_COLUMNS = ['token_ids', 'logprob_token_index', 'logprob_token_id', 'logprobs'] as const;

const SCHEMA: SchemaElement[] = [
  { name: 'conversations', num_children: TEXT_COLUMNS.length + PACKED_COLUMNS.length },
  ...TEXT_COLUMNS.map(
    (name): SchemaElement => ({ name, type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' }),
  ),
  ...PACKED_COLUMNS.map((name): SchemaElement => ({ name, type: 'BYTE_ARRAY', repetition_type: 'REQUIRED' })),
];

const count = z.int().min(0);
const messagesSchema = z.array(
  z.object({
    role: z.enum(['system', 'user', 'assistant']),
    content: z.string(),
    /** Number of token ids; absent when they are not known. */
    tokens: count.optional(),
    /** Sparse log-probs: their entries, rows, and the number asked for a row; absent when there are none. */
    logprobs: z.object({ entries: count, rows: count, k: count }).optional(),
  }),
);
const metadataSchema = z.looseObject({ seedPrompt: z.string() });

export function isNativeFormat(columns: readonly string[]): boolean {
  return PACKED_COLUMNS.every((name) => columns.includes(name));
}

/** A Parquet file in the packed layout. Equal conversations give equal bytes. */
export function encodeNative(conversations: readonly Conversation[]): Uint8Array {
  const rows = conversations.map(toRow);
  const columnData = [...TEXT_COLUMNS, ...PACKED_COLUMNS].map((name) => ({ name, data: rows.map((row) => row[name]) }));
  return new Uint8Array(parquetWriteBuffer({ columnData, schema: SCHEMA, codec: 'SNAPPY', statistics: false }));
}

/** The conversation of a row. Throws `INVALID_DATASET` when counts and data do not agree; `where` names the row. */
export function decodeNative(row: ParquetRow, where: string): Conversation {
  try {
    const messages = messagesSchema.parse(JSON.parse(readText(row, 'messages')));
    const { seedPrompt, ...metadata } = metadataSchema.parse(JSON.parse(readText(row, 'metadata')));
    return {
      id: readText(row, 'id'),
      messages: unpackMessages(messages, row, where),
      systemPrompt: readText(row, 'system_prompt'),
      type: readText(row, 'type'),
      metadata: { seedPrompt, ...metadata },
    };
  } catch (error) {
    if (CartridgesError.is(error)) throw error;
    throw new CartridgesError('INVALID_DATASET', `${where}: ${(error as Error).message}`, { cause: error });
  }
}

function toRow({ id, type, systemPrompt, messages, metadata }: Conversation) {
  const logprobs = messages.map((message) => message.topLogprobs);
  return {
    id,
    type,
    system_prompt: systemPrompt,
    messages: JSON.stringify(messages.map(describeMessage)),
    metadata: JSON.stringify(metadata),
    token_ids: pack(messages.map((message) => message.tokenIds)),
    logprob_token_index: pack(logprobs.map((sparse) => sparse?.tokenIndex)),
    logprob_token_id: pack(logprobs.map((sparse) => sparse?.tokenId)),
    logprobs: pack(logprobs.map((sparse) => sparse?.logprob)),
  };
}

function describeMessage({ role, content, tokenIds, topLogprobs }: Message): z.output<typeof messagesSchema>[number] {
  return {
    role,
    content,
    ...(tokenIds && { tokens: tokenIds.length }),
    ...(topLogprobs && { logprobs: { entries: topLogprobs.tokenId.length, rows: topLogprobs.rows, k: topLogprobs.k } }),
  };
}

function pack(parts: readonly (Int32Array | Float32Array | undefined)[]): Uint8Array {
  return Buffer.concat(
    parts.map((part) => (part ? new Uint8Array(part.buffer, part.byteOffset, part.byteLength) : new Uint8Array())),
  );
}

function unpackMessages(described: z.output<typeof messagesSchema>, row: ParquetRow, where: string): Message[] {
  const columns = PACKED_COLUMNS.map((name) => new PackedColumn(row, name));
  const [tokenIds, tokenIndex, tokenId, logprob] = columns as [PackedColumn, PackedColumn, PackedColumn, PackedColumn];
  const messages = described.map(({ role, content, tokens, logprobs }): Message => {
    const message: Message = { role, content };
    if (tokens !== undefined) message.tokenIds = new Int32Array(tokenIds.take(tokens));
    if (logprobs) {
      message.topLogprobs = {
        tokenIndex: new Int32Array(tokenIndex.take(logprobs.entries)),
        tokenId: new Int32Array(tokenId.take(logprobs.entries)),
        logprob: new Float32Array(logprob.take(logprobs.entries)),
        rows: logprobs.rows,
        k: logprobs.k,
      };
    }
    checkMessage(message, where);
    return message;
  });
  for (const column of columns) column.checkEnd();
  return messages;
}

/** Hands out the words of a packed column in order. */
class PackedColumn {
  readonly #name: string;
  readonly #bytes: Uint8Array;
  #offset = 0;

  constructor(row: ParquetRow, name: string) {
    this.#name = name;
    this.#bytes = row[name] instanceof Uint8Array ? row[name] : new Uint8Array();
  }

  take(words: number): ArrayBuffer {
    const start = this.#offset;
    this.#offset += words * 4;
    if (this.#offset > this.#bytes.length) throw new Error(`${this.#name} ends too early`);
    return new Uint8Array(this.#bytes.subarray(start, this.#offset)).buffer;
  }

  checkEnd(): void {
    if (this.#offset !== this.#bytes.length) throw new Error(`${this.#name} is longer than its messages`);
  }
}

function readText(row: ParquetRow, name: string): string {
  const value = row[name];
  if (typeof value !== 'string') throw new Error(`column ${name} is missing`);
  return value;
}
