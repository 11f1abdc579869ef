import { type Command, Option, type OptionValues } from '@commander-js/extra-typings';

/** A flag that sets one setting. Its text is read and checked by the schema of the settings. */
export class SettingOption<Usage extends string> extends Option<Usage> {
  /** For example `training.tokens`. */
  readonly settingPath: string;

  constructor(usage: Usage, settingPath: string, description: string) {
    super(usage, description);
    this.settingPath = settingPath;
  }
}

/** Options of every command. */
export type OutputFlags = { json?: true; quiet?: true; verbose?: true };

/** Options of every command that has settings; those that set one are read by `commandSettings`. */
export type SettingsFlags = { config?: string; set?: string[] };

/** Adds `--json`, `--quiet` and `--verbose`; call it last, as help shows options in their order. */
export function withOutputOptions<Args extends unknown[], Flags extends OptionValues>(command: Command<Args, Flags>) {
  const options = [
    new Option('--json', 'print one JSON object to stdout'),
    new Option('--quiet', 'show no progress, only warnings'),
    new Option('--verbose', 'show the stack of an error'),
  ];
  for (const option of options) command.addOption(option.helpGroup('Output:'));
  // Inferring the flags here makes declarations that the compiler needs minutes to write.
  return command as unknown as Command<Args, Flags & OutputFlags>;
}

/** Adds `--model`, `--device`, `--threads`, `--seed`, `--config` and `--set`, then the options for output. */
export function withSettingsOptions<Args extends unknown[], Flags extends OptionValues>(command: Command<Args, Flags>) {
  const options = [
    new SettingOption('--model <model>', 'model', 'GGUF file, org/name[:file], or pocket'),
    new SettingOption('--device <name>', 'device', 'auto, cpu, or a device that doctor lists'),
    new SettingOption('--threads <n>', 'threads', 'processor threads'),
    new SettingOption('--seed <n>', 'seed', 'seed of everything random'),
    new Option('--config <file>', 'config file; cartridges.config.ts by default'),
    new Option('--set <path=value>', 'any setting, such as training.steps=200; repeatable').argParser(collect),
  ];
  for (const option of options) command.addOption(option.helpGroup('Settings:'));
  return withOutputOptions(command as unknown as Command<Args, Flags & SettingsFlags>);
}

/** Gathers the values of a flag that may be given more than once. */
export function collect(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), text];
}
