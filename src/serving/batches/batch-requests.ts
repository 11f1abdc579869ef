import { z } from 'zod';
import { jsonDepth, MAX_JSON_DEPTH } from '../http/json-depth.js';
import type { BatchLimits } from './batch-limits.js';
import type { BatchEndpoint, BatchError } from './batch-record.js';
import { type Line, readLines } from './read-lines.js';

/** One request of a batch. */
export interface BatchRequest {
  /** Counted from 0, empty lines left out. */
  index: number;
  customId: string;
  body: Record<string, unknown>;
}

/** As deep as the body of a request may be, and the line around it. */
const MAX_LINE_DEPTH = MAX_JSON_DEPTH + 1;
/** Wrong lines that are named; whoever mends those sees the next. */
const MAX_NAMED_LINES = 100;

const lineSchema = z.strictObject({
  custom_id: z.string().min(1).max(256),
  method: z.literal('POST'),
  url: z.string(),
  body: z.looseObject({}),
});

/** Tab, carriage return, space. */
const WHITE_SPACE = new Set([0x09, 0x0d, 0x20]);
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** The file of a batch and what its lines must be. */
export interface BatchInput {
  path: string;
  endpoint: BatchEndpoint;
  limits: BatchLimits;
}

/** The requests of a file that was found valid, in its order. */
export async function* readRequests(input: BatchInput): AsyncGenerator<BatchRequest> {
  for await (const item of parseLines(input)) {
    if ('code' in item) throw new Error(`line ${item.line} of ${input.path} was valid before: ${item.message}`);
    yield item;
  }
}

/** Reads a whole file: how many requests it has, or what is wrong with it. */
export async function validateRequests(input: BatchInput): Promise<{ total: number } | { errors: BatchError[] }> {
  const { maxRequests } = input.limits;
  const lineOfId = new Map<string, number>();
  const errors: BatchError[] = [];
  for await (const item of parseLines(input)) {
    if ('code' in item) errors.push(item);
    else if (lineOfId.has(item.customId)) errors.push(duplicateId(item, lineOfId.get(item.customId)!));
    else lineOfId.set(item.customId, item.line);
    if (lineOfId.size > maxRequests)
      errors.push(problem('too_many_requests', `a batch may have at most ${maxRequests} requests`));
    if (errors.length >= MAX_NAMED_LINES || lineOfId.size > maxRequests) return { errors };
  }
  if (errors.length > 0) return { errors };
  return lineOfId.size > 0 ? { total: lineOfId.size } : { errors: [problem('empty_file', 'the file has no requests')] };
}

async function* parseLines({
  path,
  endpoint,
  limits,
}: BatchInput): AsyncGenerator<(BatchRequest & { line: number }) | BatchError> {
  let index = 0;
  for await (const line of readLines(path, limits.maxLineBytes)) {
    if (line.bytes?.every((byte) => WHITE_SPACE.has(byte))) continue;
    const parsed = parseLine(line, endpoint, limits.maxLineBytes);
    yield 'code' in parsed ? parsed : { index, line: line.number, ...parsed };
    index++;
  }
}

function parseLine({ bytes, number }: Line, endpoint: BatchEndpoint, maxBytes: number): Omit<BatchRequest, 'index'> | BatchError {
  if (bytes === undefined) return problem('line_too_long', `a line may have at most ${maxBytes} bytes`, number);
  if (jsonDepth(bytes) > MAX_LINE_DEPTH) return problem('invalid_json_line', 'the line is nested too deep', number);
  const value = parseJson(bytes);
  if (value === undefined) return problem('invalid_json_line', 'the line is no JSON in UTF-8', number);
  const result = lineSchema.safeParse(value);
  if (!result.success) return invalidLine(result.error, number);
  const { url, custom_id: customId, body } = result.data;
  if (url === endpoint) return { customId, body };
  return problem('mismatched_url', `url is not the endpoint of the batch, ${endpoint}`, number, 'url');
}

/** Undefined for what is no JSON, which no JSON text stands for. */
function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(utf8.decode(bytes));
  } catch {
    return undefined;
  }
}

function invalidLine(error: z.ZodError, line: number): BatchError {
  const issue = error.issues[0]!;
  const param = issue.code === 'unrecognized_keys' ? issue.keys[0]!.slice(0, 64) : issue.path.join('.');
  const message = issue.code === 'unrecognized_keys' ? `the field ${param} is not supported` : issue.message;
  return problem(
    'invalid_request',
    param === '' || issue.code === 'unrecognized_keys' ? message : `${param}: ${message}`,
    line,
    param,
  );
}

function duplicateId({ customId, line }: { customId: string; line: number }, first: number): BatchError {
  return problem('duplicate_custom_id', `custom_id ${JSON.stringify(customId)} is that of line ${first}`, line, 'custom_id');
}

function problem(code: string, message: string, line: number | null = null, param: string | null = null): BatchError {
  return { code, message, line, param };
}
