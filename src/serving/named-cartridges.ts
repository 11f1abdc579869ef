import { CartridgesError } from '../core/errors.js';
import type { Settings } from '../pipeline/settings.js';

/** The cartridges that the settings name, by id. Throws `INVALID_OPTION` for a name that comes twice. */
export function namedCartridges({ cartridges }: Settings['serving']): Map<string, string> {
  const files = new Map<string, string>();
  for (const text of cartridges) {
    const equals = text.indexOf('=');
    const name = text.slice(0, equals);
    if (files.has(name)) throw new CartridgesError('INVALID_OPTION', `the name ${name} is given to two cartridges`);
    files.set(name, text.slice(equals + 1));
  }
  return files;
}
