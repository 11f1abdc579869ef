import { CartridgesError, type ErrorCode } from '../../core/errors.js';
import { RequestError, refusalFor } from '../request-error.js';

/** Errors of framing, grammar and engine that are the request's own fault. */
const FAULTS_OF_THE_REQUEST: readonly ErrorCode[] = ['INVALID_INPUT', 'INVALID_OPTION', 'UNSUPPORTED_MODEL', 'CONTEXT_OVERFLOW'];

/** A refusal with 400 that names the field. */
export function refusal(param: string, message: string): RequestError {
  return new RequestError(400, message, { param });
}

/** What framing, grammar or engine said of a field of the request, as a refusal; what is not the request's fault stays as it is. */
export function toRefusal(error: unknown, param: string): unknown {
  if (!CartridgesError.is(error) || error instanceof RequestError || !FAULTS_OF_THE_REQUEST.includes(error.code)) return error;
  return refusalFor(error, 400, { param, ...(error.code === 'CONTEXT_OVERFLOW' && { apiCode: 'context_length_exceeded' }) });
}

/** Runs what may find fault with one field of the request. */
export function blaming<T>(param: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    throw toRefusal(error, param);
  }
}
