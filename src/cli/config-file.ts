import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CartridgesError, toCartridgesError } from '../core/errors.js';
import { assignmentsOf, type SettingAssignment } from '../pipeline/resolve-settings.js';

const NAMES = ['ts', 'mts', 'js', 'mjs', 'json'].map((extension) => `cartridges.config.${extension}`);

/**
 * The settings in a config file: the one that is named, or the one in the folder, or none.
 *
 * @throws {CartridgesError}  `FILE_NOT_FOUND` for a named file; `INVALID_OPTION` when it cannot be loaded or holds no settings.
 */
export async function readConfigFile(folder: string, named: string | undefined): Promise<SettingAssignment[]> {
  const path = named === undefined ? findConfigFile(folder) : resolve(folder, named);
  if (path === undefined) return [];
  if (!existsSync(path)) throw new CartridgesError('FILE_NOT_FOUND', `the config file ${path} does not exist`);
  return assignmentsOf(await load(path, folder), basename(path));
}

function findConfigFile(folder: string): string | undefined {
  const found = NAMES.filter((name) => existsSync(join(folder, name)));
  if (found.length > 1) {
    throw new CartridgesError('INVALID_OPTION', `there are several config files: ${found.join(', ')}`, {
      hint: 'keep one of them, or name it with --config',
    });
  }
  return found[0] === undefined ? undefined : join(folder, found[0]);
}

async function load(path: string, folder: string): Promise<unknown> {
  // Loading TypeScript costs a third of a second, so only those who have a config file pay for it.
  const { loadConfig } = await import('c12');
  try {
    const { config } = await loadConfig({
      name: 'cartridges',
      cwd: folder,
      configFile: path,
      rcFile: false,
      envName: false,
      extend: false,
      // A config file that imports `cartridges` gets this copy, wherever it lies.
      jitiOptions: { alias: { cartridges: fileURLToPath(new URL('../index.js', import.meta.url)) } },
      // The usual merge drops what is null, which is to be refused.
      merger: (...sources) => sources.find((source) => source !== undefined) as Record<string, unknown>,
    });
    return config;
  } catch (thrown) {
    const error = toCartridgesError(thrown);
    throw new CartridgesError('INVALID_OPTION', `${path} cannot be loaded: ${error.message}`, { cause: thrown });
  }
}
