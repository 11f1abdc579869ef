import { RequestError } from '../request-error.js';

/**
 * Names of cartridges: `name` or `org/name`, each part of letters, digits, `.`, `_` and `-`, beginning with a letter or a
 * digit. So no name is hidden, leaves its folder or means something to a shell.
 */
const PART = '[A-Za-z0-9][A-Za-z0-9._-]{0,63}';
const PATTERN = new RegExp(`^${PART}(?:/${PART})?$`);
/** What a name has to be, for people. */
export const CARTRIDGE_ID_RULE = 'name or org/name of letters, digits, ".", "_" and "-", at most 64 a part';
/** The admin API has other things at this path. */
const RESERVED = 'downloads';

export function isCartridgeId(text: string): boolean {
  return PATTERN.test(text) && text.toLowerCase() !== RESERVED;
}

/** Throws a 400 that names the field. */
export function checkCartridgeId(id: string, param = 'id'): void {
  if (isCartridgeId(id)) return;
  throw new RequestError(400, `${JSON.stringify(id.slice(0, 160))} cannot be the name of a cartridge`, {
    param,
    hint: `use ${CARTRIDGE_ID_RULE}; "${RESERVED}" is taken`,
  });
}

/** The folder of a cartridge: one name for each id, without a slash in it. */
export function folderOfId(id: string): string {
  return encodeURIComponent(id);
}

/** The id whose folder has a name; undefined for every other folder. */
export function idOfFolder(name: string): string | undefined {
  const id = name.replace('%2F', '/');
  return isCartridgeId(id) && folderOfId(id) === name ? id : undefined;
}
