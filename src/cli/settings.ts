import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { type EnvironmentVariables, readEnvironment } from '../core/environment.js';
import { CartridgesError } from '../core/errors.js';
import { resolveAssignments, type SettingAssignment } from '../pipeline/resolve-settings.js';
import type { Settings } from '../pipeline/settings.js';
import { readConfigFile } from './config-file.js';
import { SettingOption, type SettingsFlags } from './options.js';

/** Where settings come from besides the command line. */
export interface SettingsSources {
  /** That the config file lies in. */
  folder?: string;
  /** Take the config file that lies there though none is named. */
  findConfig?: boolean;
  variables?: EnvironmentVariables;
}

/** The settings of a command: flags over `--set` over the config file over the environment over defaults. */
export async function commandSettings(command: CommandUnknownOpts, sources: SettingsSources = {}): Promise<Settings> {
  const { folder = process.cwd(), findConfig = true, variables } = sources;
  const { config, set = [] } = command.opts() as SettingsFlags;
  const isConfigured = findConfig || config !== undefined;
  return resolveAssignments([
    ...fromEnvironment(variables),
    ...(isConfigured ? await readConfigFile(folder, config) : []),
    ...set.map(fromSetFlag),
    ...fromFlags(command),
  ]);
}

/** The model of the settings. Throws `INVALID_OPTION` that says all ways to name one. */
export function requireModel(settings: Settings): string {
  if (settings.model !== undefined) return settings.model;
  throw new CartridgesError('INVALID_OPTION', 'no model is named', {
    hint: 'add --model FILE.gguf, or model to the config file, or set CARTRIDGES_MODEL; --model pocket is the small one that is here',
  });
}

function fromEnvironment(variables: EnvironmentVariables | undefined): SettingAssignment[] {
  const { model, device, threads } = readEnvironment(variables);
  return Object.entries({ model, device, threads })
    .filter(([, value]) => value !== undefined)
    .map(([path, value]) => ({ path, value, origin: `CARTRIDGES_${path.toUpperCase()}`, isText: true }));
}

function fromSetFlag(text: string): SettingAssignment {
  const equals = text.indexOf('=');
  if (equals <= 0) {
    throw new CartridgesError('INVALID_OPTION', `--set ${text}: expected a setting and a value`, {
      hint: 'for example --set training.steps=200',
    });
  }
  return { path: text.slice(0, equals), value: text.slice(equals + 1), origin: '--set', isText: true };
}

function fromFlags(command: CommandUnknownOpts): SettingAssignment[] {
  return command.options
    .filter((option) => option instanceof SettingOption)
    .map((option) => ({
      path: option.settingPath,
      value: command.getOptionValue(option.attributeName()),
      origin: option.long ?? option.flags,
      isText: true,
    }))
    .filter(({ value }) => value !== undefined);
}
