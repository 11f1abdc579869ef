import { HTTPException } from 'hono/http-exception';
import { CartridgesError, type ErrorCode } from '../core/errors.js';
import { RequestError } from './request-error.js';

/** The body of every answer that is an error, as OpenAI's clients read it. */
export interface ErrorBody {
  error: {
    message: string;
    /** The family of the error, such as `invalid_request_error`. */
    type: string;
    /** The field of the request that is wrong. */
    param: string | null;
    /** OpenAI's code where it has one, else the code of the error in lower case, such as `context_overflow`. */
    code: string;
  };
}

type ErrorStatus = 400 | 401 | 403 | 404 | 408 | 409 | 413 | 415 | 422 | 429 | 500 | 502 | 503 | 507;

interface ErrorAnswer {
  status: ErrorStatus;
  code: ErrorCode;
  apiCode?: string;
  message: string;
  hint?: string;
  param?: string;
  retryAfterSeconds?: number;
}

/**
 * Statuses of errors that are shown to the client as they are. An error with another code tells about this machine, paths
 * included: its message goes to the log, and the client reads that the server failed.
 */
const SHOWN: Partial<Record<ErrorCode, ErrorStatus>> = {
  INVALID_INPUT: 400,
  CONTEXT_OVERFLOW: 400,
  CARTRIDGE_MISMATCH: 400,
  NOT_ALLOWED: 403,
  NOT_FOUND: 404,
  OVERLOADED: 503,
};

/** What the client reads in place of a message that is not for it. */
const HIDDEN: Partial<Record<ErrorCode, { status: ErrorStatus; message: string; retryAfterSeconds?: number }>> = {
  OUT_OF_MEMORY: { status: 503, message: 'the server has no memory left for this request' },
  DISK_FULL: { status: 507, message: "the server's disk is full" },
  ENGINE_FAILURE: { status: 500, message: 'the engine failed while it worked on this request; try again' },
  ENGINE_DOWN: { status: 503, message: 'the engine failed and is not there again yet; try again later', retryAfterSeconds: 5 },
  CANCELLED: { status: 503, message: 'the request was cancelled before its answer was complete' },
};

const TYPE_OF_STATUS: Partial<Record<ErrorStatus, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  429: 'rate_limit_error',
  500: 'server_error',
  502: 'server_error',
  503: 'server_error',
  507: 'server_error',
};

/** Turns whatever a route threw into the answer that the client gets. */
export function toErrorResponse(thrown: unknown): Response {
  const answer = describe(thrown);
  const headers = new Headers({ 'content-type': 'application/json' });
  if (answer.retryAfterSeconds !== undefined) headers.set('retry-after', String(Math.ceil(answer.retryAfterSeconds)));
  if (answer.status === 401) headers.set('www-authenticate', 'Bearer');
  return new Response(JSON.stringify(bodyOf(answer)), { status: answer.status, headers });
}

/** The body alone, for an error that comes after the head of the answer was sent. */
export function toErrorBody(thrown: unknown): ErrorBody {
  return bodyOf(describe(thrown));
}

function bodyOf({ status, code, apiCode, message, hint, param }: ErrorAnswer): ErrorBody {
  return {
    error: {
      message: hint === undefined ? message : `${message} (${hint})`,
      type: TYPE_OF_STATUS[status] ?? 'invalid_request_error',
      param: param ?? null,
      code: apiCode ?? code.toLowerCase(),
    },
  };
}

function describe(thrown: unknown): ErrorAnswer {
  if (thrown instanceof RequestError) return describeRefusal(thrown);
  if (thrown instanceof HTTPException) return describeHttpException(thrown);
  const error = CartridgesError.is(thrown) ? thrown : undefined;
  // A request that ran out of time, or out of a server, was cancelled for a reason that has an answer of its own.
  if (error?.code === 'CANCELLED' && error.cause instanceof RequestError) return describeRefusal(error.cause);
  const code = error?.code ?? (isAbort(thrown) ? 'CANCELLED' : 'INTERNAL');
  const status = SHOWN[code];
  if (error !== undefined && status !== undefined) return { status, code, message: error.message, ...hintOf(error) };
  const hidden = HIDDEN[code];
  return hidden === undefined ? { status: 500, code: 'INTERNAL', message: 'the server failed' } : { code, ...hidden };
}

function describeRefusal(error: RequestError): ErrorAnswer {
  const { status, code, apiCode, message, param, retryAfterSeconds } = error;
  return {
    status,
    code,
    message,
    ...hintOf(error),
    ...(apiCode !== undefined && { apiCode }),
    ...(param !== undefined && { param }),
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
  };
}

/** Hono's own refusals: a body that is no JSON, or has another media type. */
function describeHttpException({ status, message }: HTTPException): ErrorAnswer {
  if (status === 415) return { status, code: 'INVALID_INPUT', message: 'the body has another media type than this route takes' };
  if (status === 400) return { status, code: 'INVALID_INPUT', message };
  return { status: 500, code: 'INTERNAL', message: 'the server failed' };
}

function hintOf({ hint }: CartridgesError): { hint?: string } {
  return hint === undefined ? {} : { hint };
}

function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === 'AbortError';
}
