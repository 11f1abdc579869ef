import { CartridgesError } from '../../core/errors.js';

/** What every reader of this folder throws for a file that it cannot or may not read. */
export function invalidCheckpoint(path: string, reason: string): CartridgesError {
  return new CartridgesError('INVALID_CARTRIDGE', `${path} is not a usable checkpoint: ${reason}`, {
    hint: 'it must be a cartridge that the Python project saved with torch.save; damaged files have to be fetched again',
  });
}
