import type { Command } from '@commander-js/extra-typings';
import { formatTable } from '../format.js';
import { withOutputOptions } from '../options.js';
import { runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';

/** `cartridges settings`: every setting with its default and meaning. */
export function addSettingsCommand(program: Command, terminal: Terminal): void {
  withOutputOptions(program.command('settings').description('list all settings for the config file and --set')).action(
    (_flags, command) =>
      runCommand(terminal, command, async ({ output }) => {
        const { describeSettings } = await import('../../pipeline/resolve-settings.js');
        const settings = describeSettings();
        output.result({ settings }, () =>
          formatTable(settings.map(({ path, default: value, description }) => [path, String(value ?? '-'), description])),
        );
      }),
  );
}
