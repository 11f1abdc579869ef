import { CartridgesError } from '../core/errors.js';
import type { Settings } from '../pipeline/settings.js';

/** The cartridges that the settings name, by id. Throws `INVALID_OPTION` for a name that comes twice. */
export function namedCartridges({ cartridges }: Settings['serving']): Map<string, string> {
  return byName(cartridges, 'cartridges');
}

/** The texts of named cartridges, by the cartridge's id. Throws `INVALID_OPTION` for a name that comes twice or names no cartridge. */
export function namedCorpora(serving: Settings['serving']): Map<string, string> {
  const cartridges = namedCartridges(serving);
  const corpora = byName(serving.corpora, 'texts');
  for (const name of corpora.keys()) {
    if (cartridges.has(name)) continue;
    throw new CartridgesError('INVALID_OPTION', `a text is given for ${name}, and no cartridge has that name`, {
      hint: `name it with --cartridge ${name}=FILE`,
    });
  }
  return corpora;
}

function byName(texts: readonly string[], what: string): Map<string, string> {
  const paths = new Map<string, string>();
  for (const text of texts) {
    const equals = text.indexOf('=');
    const name = text.slice(0, equals);
    if (paths.has(name)) throw new CartridgesError('INVALID_OPTION', `the name ${name} is given to two ${what}`);
    paths.set(name, text.slice(equals + 1));
  }
  return paths;
}
