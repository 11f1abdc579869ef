import { CartridgesError } from '../../core/errors.js';

/** `dnnl_status_t` */
const STATUS_NAMES = [
  'success',
  'out of memory',
  'invalid arguments',
  'unimplemented',
  'last implementation reached',
  'runtime error',
];

/** Throws `ENGINE_FAILURE` for a status other than success. */
export function requireSuccess(status: number, call: string): void {
  if (status === 0) return;
  throw new CartridgesError('ENGINE_FAILURE', `oneDNN: ${call} failed: ${STATUS_NAMES[status] ?? `status ${status}`}`);
}

type Creator<Arguments extends unknown[]> = (result: [unknown], ...args: Arguments) => number;

/** Calls a function that returns a status and its result through a pointer. */
export function created<Result, Arguments extends unknown[]>(
  name: string,
  create: Creator<Arguments>,
  ...args: Arguments
): Result {
  const result: [unknown] = [null];
  requireSuccess(create(result, ...args), name);
  return result[0] as Result;
}
