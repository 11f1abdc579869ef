import type { Command } from '@commander-js/extra-typings';
import { SettingOption, withSettingsOptions } from '../options.js';
import { runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';
import { withCorpus } from '../with-session.js';
import { checkCartridgePath, describeSteps } from './build.js';

/** `cartridges train DATASET --corpus SOURCE -o FILE`: context distillation into a cartridge. */
export function addTrainCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program
      .command('train')
      .description('train a cartridge on a dataset')
      .argument('<dataset>', 'folder of synthesize, or a Parquet file')
      .requiredOption('--corpus <source>', 'the text that the dataset is about: the initial rows come from it')
      .requiredOption('-o, --output <file>', 'cartridge file to write')
      .option('--resume', 'continue the run that was stopped')
      .addOption(
        new SettingOption('--tokens <p>', 'training.tokens', 'rows of the cartridge; by default from the length of the text'),
      )
      .addOption(new SettingOption('--steps <n>', 'training.steps', 'optimiser steps'))
      .addOption(new SettingOption('--lr <rate>', 'training.learningRate', 'peak learning rate'))
      .addOption(new SettingOption('--minutes <m>', 'minutes', 'bound of the training')),
  ).action((dataset, { corpus: source, output: path, resume = false }, command) =>
    runCommand(
      terminal,
      command,
      async ({ output, settings: resolve, run }) => {
        const startedAt = performance.now();
        const settings = await resolve();
        checkCartridgePath(path);
        await withCorpus(settings, source, run, async (session, corpus) => {
          const { trainAndWrite } = await import('../../pipeline/build.js');
          const result = await trainAndWrite({ session, corpus, settings, dataset, output: path, resume, startedAt, ...run });
          output.result(result, () => `${path}: ${result.tokens} rows, ${describeSteps(result)}`);
        });
      },
      'the same command with --resume continues',
    ),
  );
}
