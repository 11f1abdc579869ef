import { CartridgesError, toCartridgesError } from '../../core/errors.js';

/**
 * What the system says of a path of this machine is not the client's fault, and its words are not for the client: such an error
 * becomes `INTERNAL`. Every other one stays.
 */
export function hideSystemError(thrown: unknown): unknown {
  const error = toCartridgesError(thrown);
  const isOfSystem = error.code === 'INVALID_INPUT' && error.cause instanceof Error && 'syscall' in error.cause;
  return isOfSystem ? new CartridgesError('INTERNAL', error.message, { cause: error.cause }) : error;
}
