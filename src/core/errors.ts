/** Exit status of the command line for each family of errors. */
const EXIT_STATUS = {
  INVALID_OPTION: 2,
  UNKNOWN_OPTION: 2,
  INVALID_INPUT: 3,
  FILE_NOT_FOUND: 3,
  NOT_FOUND: 3,
  CORPUS_EMPTY: 3,
  CORPUS_NOT_TEXT: 3,
  INVALID_DATASET: 3,
  SETTINGS_CHANGED: 3,
  INVALID_MODEL: 4,
  UNSUPPORTED_MODEL: 4,
  INVALID_CARTRIDGE: 5,
  CARTRIDGE_MISMATCH: 5,
  ENGINE_MISSING: 6,
  ENGINE_VERSION: 6,
  ENGINE_FAILURE: 6,
  ENGINE_DOWN: 6,
  CONTEXT_OVERFLOW: 7,
  OUT_OF_MEMORY: 7,
  DISK_FULL: 7,
  DOWNLOAD_FAILED: 8,
  SERVER_FAILED: 8,
  NOT_ALLOWED: 11,
  OVERLOADED: 12,
  GATE_FAILED: 9,
  NON_FINITE_LOSS: 10,
  INTERNAL: 70,
  CANCELLED: 130,
} as const;

export type ErrorCode = keyof typeof EXIT_STATUS;

const MARK = Symbol.for('cartridges.error');

export interface ErrorDetails {
  /** What the reader can do about it, one sentence. */
  hint?: string;
  cause?: unknown;
}

/**
 * The only error type that this package throws on purpose. The message says what is wrong and where, `hint` what to do.
 *
 * @example
 * throw new CartridgesError('FILE_NOT_FOUND', 'model m.gguf does not exist', { hint: 'check the path or run: cartridges models pull REPO' });
 */
export class CartridgesError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | undefined;
  readonly [MARK] = true;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'CartridgesError';
    this.code = code;
    this.hint = details.hint;
  }

  get exitStatus(): number {
    return EXIT_STATUS[this.code];
  }

  /** Works across two copies of this package in one process, where `instanceof` does not. */
  static is(value: unknown): value is CartridgesError {
    return typeof value === 'object' && value !== null && MARK in value;
  }
}

/** What the system says of a path that cannot be used. */
const PATH_CODES = new Set(['EACCES', 'EEXIST', 'EISDIR', 'ELOOP', 'ENAMETOOLONG', 'ENOTDIR', 'EPERM', 'EROFS']);

/** Turns whatever was thrown into a CartridgesError; what has no code yet becomes `INTERNAL`, and an abort `CANCELLED`. */
export function toCartridgesError(thrown: unknown): CartridgesError {
  if (CartridgesError.is(thrown)) return thrown;
  const error = thrown instanceof Error ? thrown : new Error(String(thrown));
  if (error.name === 'AbortError') return new CartridgesError('CANCELLED', 'cancelled', { cause: error });
  const code = (error as NodeJS.ErrnoException).code;
  const path = (error as NodeJS.ErrnoException).path;
  if (code === 'ENOENT') {
    return new CartridgesError('FILE_NOT_FOUND', `${path ?? 'a file'} does not exist`, { hint: 'check the path', cause: error });
  }
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new CartridgesError('DISK_FULL', `no space left on the disk while writing ${path ?? 'a file'}`, {
      hint: 'free some space and run the same command again; finished work is kept',
      cause: error,
    });
  }
  if (code !== undefined && PATH_CODES.has(code)) {
    return new CartridgesError('INVALID_INPUT', error.message, {
      hint: 'use another path, or change who may use it',
      cause: error,
    });
  }
  return new CartridgesError('INTERNAL', error.message, { cause: error });
}

/** For the `catch` of a promise: throws what {@link toCartridgesError} makes of the reason. */
export function rethrow(thrown: unknown): never {
  throw toCartridgesError(thrown);
}

/** Throws `CANCELLED` when the signal was aborted; call it between steps of long work. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new CartridgesError('CANCELLED', 'cancelled', { cause: signal.reason });
}
