import type { SchemaElement } from 'hyparquet';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { CartridgesError } from '../../core/errors.js';
import type { Message, Role } from '../../core/message.js';
import type { SparseLogprobs } from '../../core/sparse-logprobs.js';
import type { Conversation } from '../conversation.js';
import { checkMessage } from './check-message.js';
import { inferColumn, leafSchema, listSchema, structSchema } from './json-columns.js';
import type { ParquetRow } from './parquet-file.js';

/**
 * The nested layout of the Python project's datasets (`cartridges/structs.py`): one row a conversation, its messages a list
 * of structs. Fields are read by name, since published copies have them in another order, and token ids, log-probs and
 * tool calls may be columns of nulls.
 */

const REQUIRED_COLUMNS = ['messages', 'system_prompt'];
const ROLES: readonly string[] = ['system', 'user', 'assistant'] satisfies Role[];

const TEXT = { type: 'BYTE_ARRAY', converted_type: 'UTF8', logical_type: { type: 'STRING' } } as const;

const MESSAGES_SCHEMA = listSchema(
  'messages',
  structSchema('element', [
    [leafSchema('content', TEXT)],
    [leafSchema('role', TEXT)],
    numbers('token_ids', 'INT64'),
    structSchema('top_logprobs', [
      numbers('token_idx', 'INT64'),
      numbers('token_id', 'INT32'),
      numbers('logprobs', 'FLOAT'),
      numbers('shape', 'INT64'),
    ]),
  ]),
);

function numbers(name: string, type: 'INT64' | 'INT32' | 'FLOAT'): SchemaElement[] {
  return listSchema(name, [leafSchema('element', { type })]);
}

export function isUpstreamFormat(columns: readonly string[]): boolean {
  return REQUIRED_COLUMNS.every((name) => columns.includes(name));
}

/** A Parquet file that the Python project reads, in row groups of 1000 conversations. */
export function encodeUpstream(conversations: readonly Conversation[]): Uint8Array {
  const metadata = inferColumn('metadata', conversations.map(toMetadata));
  const columnData = [
    { name: 'messages', data: conversations.map(({ messages }) => messages.map(toMessage)) },
    { name: 'system_prompt', data: conversations.map(({ systemPrompt }) => systemPrompt) },
    { name: 'metadata', data: metadata.data },
    { name: 'type', data: conversations.map(({ type }) => type) },
  ];
  const schema: SchemaElement[] = [
    { name: 'schema', num_children: columnData.length },
    ...MESSAGES_SCHEMA,
    leafSchema('system_prompt', TEXT),
    ...metadata.schema,
    leafSchema('type', TEXT),
  ];
  return new Uint8Array(parquetWriteBuffer({ columnData, schema, codec: 'SNAPPY', rowGroupSize: 1000 }));
}

/** The conversation of a row, which has no id of its own. Throws `INVALID_DATASET`; `where` names the row. */
export function decodeUpstream(row: ParquetRow, id: string, where: string): Conversation {
  try {
    const { seed_prompt, ...metadata } = toPlainJson(row['metadata'] ?? {}) as Record<string, unknown>;
    return {
      id,
      messages: readList(row['messages'], 'messages').map((message) => fromMessage(message, where)),
      systemPrompt: readText(row, 'system_prompt'),
      type: row['type'] === undefined || row['type'] === null ? '' : readText(row, 'type'),
      metadata: { seedPrompt: typeof seed_prompt === 'string' ? seed_prompt : '', ...metadata },
    };
  } catch (error) {
    if (CartridgesError.is(error)) throw error;
    throw new CartridgesError('INVALID_DATASET', `${where}: ${(error as Error).message}`, { cause: error });
  }
}

function toMetadata({ metadata, systemPrompt }: Conversation): Record<string, unknown> {
  const { seedPrompt, ...rest } = metadata;
  return { tool_calls: [], seed_prompt: seedPrompt, initial_system_prompt: systemPrompt, ...rest };
}

function toMessage({ content, role, tokenIds, topLogprobs }: Message) {
  return {
    content,
    role,
    token_ids: tokenIds ? toBigints(tokenIds) : null,
    top_logprobs: topLogprobs
      ? {
          token_idx: toBigints(topLogprobs.tokenIndex),
          token_id: [...topLogprobs.tokenId],
          logprobs: [...topLogprobs.logprob],
          shape: [BigInt(topLogprobs.rows), BigInt(topLogprobs.k)],
        }
      : null,
  };
}

function toBigints(values: Int32Array): bigint[] {
  return Array.from(values, BigInt);
}

function fromMessage(value: unknown, where: string): Message {
  const fields = (value ?? {}) as ParquetRow;
  const role = readText(fields, 'role');
  if (!ROLES.includes(role)) throw new Error(`a message has the unknown role "${role}"`);
  const message: Message = { role: role as Role, content: readText(fields, 'content') };
  if (isPresent(fields['token_ids'])) message.tokenIds = readIntegers(fields['token_ids'], 'token_ids');
  if (isPresent(fields['top_logprobs'])) message.topLogprobs = fromLogprobs(fields['top_logprobs'] as ParquetRow);
  checkMessage(message, where);
  return message;
}

function fromLogprobs(fields: ParquetRow): SparseLogprobs {
  const [rows, k] = readIntegers(fields['shape'], 'shape');
  if (rows === undefined || k === undefined) throw new Error('shape has not two numbers');
  return {
    tokenIndex: readIntegers(fields['token_idx'], 'token_idx'),
    tokenId: readIntegers(fields['token_id'], 'token_id'),
    logprob: Float32Array.from(readList(fields['logprobs'], 'logprobs') as number[]),
    rows,
    k,
  };
}

/** Numbers, bigint or not, that must fit 32 bits. */
function readIntegers(value: unknown, name: string): Int32Array {
  const list = readList(value, name);
  const result = new Int32Array(list.length);
  for (let i = 0; i < list.length; i++) {
    result[i] = Number(list[i]);
    if (list[i] === null || result[i] !== Number(list[i])) throw new Error(`${name} has the value ${list[i]}`);
  }
  return result;
}

function readList(value: unknown, name: string): unknown[] {
  if (!Array.isArray(value)) throw new Error(`${name} is not a list`);
  return value;
}

function readText(fields: ParquetRow, name: string): string {
  const value = fields[name];
  if (typeof value !== 'string') throw new Error(`${name} is not text`);
  return value;
}

function isPresent(value: unknown): boolean {
  return value !== null && value !== undefined;
}

/** What Parquet gives for lists, structs and 64-bit integers, as JSON has it. */
function toPlainJson(value: unknown): unknown {
  if (value === undefined) return null;
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof Date) return value.toISOString();
  if (ArrayBuffer.isView(value)) return Array.from(value as Uint8Array);
  if (Array.isArray(value)) return value.map(toPlainJson);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, toPlainJson(inner)]));
}
