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

const OUT_OF_MEMORY = 1;

/** Throws `OUT_OF_MEMORY`, and `ENGINE_FAILURE` for any other status than success. */
export function requireSuccess(status: number, call: string): void {
  if (status === 0) return;
  throw new CartridgesError(
    status === OUT_OF_MEMORY ? 'OUT_OF_MEMORY' : 'ENGINE_FAILURE',
    `oneDNN: ${call} failed: ${STATUS_NAMES[status] ?? `status ${status}`}`,
  );
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
