import { inspect } from 'node:util';
import { CommanderError } from 'commander';
import { CartridgesError, toCartridgesError } from '../core/errors.js';
import { colorsFor } from './colors.js';
import { printableLine } from './format.js';
import type { TextStream } from './terminal.js';

/** Writes an error as one line and a hint, with `verbose` the stack too. Returns the exit status. */
export function reportError(thrown: unknown, stream: TextStream, verbose: boolean): number {
  const error = thrown instanceof CommanderError ? fromCommander(thrown) : toCartridgesError(thrown);
  const colors = colorsFor(stream);
  stream.write(`${colors.red('error:')} ${printableLine(error.message)}\n`);
  const hint = error.hint ?? (error.code === 'INTERNAL' ? internalHint(verbose) : undefined);
  if (hint !== undefined) stream.write(`  ${colors.cyan('hint:')} ${printableLine(hint)}\n`);
  if (verbose) stream.write(`${colors.dim(inspect(error))}\n`);
  return error.exitStatus;
}

const UNKNOWN = new Set(['commander.unknownOption', 'commander.unknownCommand', 'commander.excessArguments']);

/** The parser's message reads `error: unknown option '--tokns'`, and on a second line `(Did you mean --tokens?)`. */
function fromCommander(error: CommanderError): CartridgesError {
  const [message = '', suggestion] = error.message.replace(/^error: /, '').split('\n');
  return new CartridgesError(UNKNOWN.has(error.code) ? 'UNKNOWN_OPTION' : 'INVALID_OPTION', message, {
    hint:
      suggestion?.replace(/^\(Did you mean (.*)\)$/, 'did you mean $1') ?? 'the same command with --help shows how to call it',
  });
}

function internalHint(verbose: boolean): string {
  return verbose ? 'this is a defect; please report it with the lines below' : 'this is a defect; --verbose shows where it is';
}
