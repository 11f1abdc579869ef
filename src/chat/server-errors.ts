import { z } from 'zod';
import { CartridgesError, type ErrorCode } from '../core/errors.js';

/** What a server says of a request that it refuses. */
export interface Refusal {
  /** HTTP status; unknown for an error in the middle of a stream. */
  status: number | undefined;
  message: string;
  /** The server's own names for the error. */
  names: readonly string[];
}

const MAX_MESSAGE_LENGTH = 500;

const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  401: 'NOT_ALLOWED',
  403: 'NOT_ALLOWED',
  404: 'NOT_FOUND',
  429: 'OVERLOADED',
  503: 'OVERLOADED',
};

const HINTS: Partial<Record<ErrorCode, string>> = {
  NOT_ALLOWED: 'give the key in CARTRIDGES_API_KEY, or one that may do this',
  NOT_FOUND: 'check the address and the name of the model',
  OVERLOADED: 'try again later',
  CONTEXT_OVERFLOW: 'ask with less text, or for a shorter answer',
};

/** OpenAI's name for a chat that is too long, and llama-server's. */
const OVERFLOW_NAMES = new Set(['context_length_exceeded', 'exceed_context_size_error']);

const name = z.union([z.string(), z.int()]).nullish().catch(undefined);
const errorObject = z.object({ message: z.string(), type: name, code: name });
/** OpenAI's form, then what others send. */
const errorBody = z.union([
  z.object({ error: errorObject }).transform(({ error }) => error),
  z.object({ error: z.string() }).transform(({ error }) => ({ message: error, type: undefined, code: undefined })),
  z.object({ detail: z.string() }).transform(({ detail }) => ({ message: detail, type: undefined, code: undefined })),
  errorObject,
]);

/** Reads the body of a refusal; undefined for a value that is none. */
export function readRefusal(body: unknown, status?: number): Refusal | undefined {
  const { data } = errorBody.safeParse(body);
  if (data === undefined) return undefined;
  const names = [data.type, data.code].filter((value) => typeof value === 'string');
  return { status: status ?? (typeof data.code === 'number' ? data.code : undefined), message: data.message, names };
}

/** The error of a refusal, with the server's message cut to a length that is fit to show. */
export function refusalError(server: string, { status, message, names }: Refusal): CartridgesError {
  const code = names.some((known) => OVERFLOW_NAMES.has(known)) ? 'CONTEXT_OVERFLOW' : codeOf(status);
  const shown = message.length > MAX_MESSAGE_LENGTH ? `${message.slice(0, MAX_MESSAGE_LENGTH)}…` : message;
  const answered = status === undefined ? 'broke the answer off' : `answered ${status}`;
  return new CartridgesError(code, `${server} ${answered}${shown === '' ? '' : `: ${shown}`}`, { hint: HINTS[code] });
}

function codeOf(status: number | undefined): ErrorCode {
  return (status === undefined ? undefined : CODE_OF_STATUS[status]) ?? 'SERVER_FAILED';
}
