import { CartridgesError, type ErrorCode, type ErrorDetails } from '../core/errors.js';

/** HTTP statuses that a request can be refused with, and the code of the error. */
const CODE_OF_STATUS = {
  400: 'INVALID_INPUT',
  401: 'NOT_ALLOWED',
  403: 'NOT_ALLOWED',
  404: 'NOT_FOUND',
  408: 'OVERLOADED',
  409: 'INVALID_INPUT',
  413: 'INVALID_INPUT',
  422: 'INVALID_INPUT',
  429: 'OVERLOADED',
  502: 'DOWNLOAD_FAILED',
  503: 'OVERLOADED',
} as const satisfies Record<number, ErrorCode>;

export type RefusalStatus = keyof typeof CODE_OF_STATUS;

export interface RefusalDetails extends ErrorDetails {
  /** The field of the request that is wrong, such as `messages[2].content`. */
  param?: string;
  /** OpenAI's code for this refusal where it has one, such as `context_length_exceeded`. */
  apiCode?: string;
  /** When a further try makes sense; becomes the header `Retry-After`. */
  retryAfterSeconds?: number;
}

/**
 * A request that the server refuses, with the status and the field that its answer names.
 *
 * @example
 * throw new RequestError(400, 'a request may not ask for more than 20 log-probs', { param: 'top_logprobs' });
 */
export class RequestError extends CartridgesError {
  readonly status: RefusalStatus;
  readonly param: string | undefined;
  readonly apiCode: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(status: RefusalStatus, message: string, details: RefusalDetails = {}) {
    super(CODE_OF_STATUS[status], message, details);
    this.status = status;
    this.param = details.param;
    this.apiCode = details.apiCode;
    this.retryAfterSeconds = details.retryAfterSeconds;
  }
}

/** A refusal for what another error says, with its message and its hint unless the details bring others. */
export function refusalFor(
  error: CartridgesError,
  status: RefusalStatus,
  { message = error.message, ...details }: RefusalDetails & { message?: string } = {},
): RequestError {
  return new RequestError(status, message, { cause: error, ...(error.hint !== undefined && { hint: error.hint }), ...details });
}

/** The same words for what does not exist and for what the key may not see, so that neither can be told from the other. */
export function notFound(kind: 'cartridge' | 'model' | 'file' | 'batch', id: string, param?: string): RequestError {
  return new RequestError(404, `there is no ${kind} ${JSON.stringify(id)}`, {
    ...(param !== undefined && { param }),
    ...(kind === 'model' && { apiCode: 'model_not_found' }),
  });
}
