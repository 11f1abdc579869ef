import type { Command } from '@commander-js/extra-typings';
import { CartridgesError } from '../../core/errors.js';
import type { BuildResult } from '../../pipeline/build.js';
import { SettingOption, withSettingsOptions } from '../options.js';
import { CONTINUES_HINT, runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';
import { withCorpus } from '../with-session.js';

/** `cartridges build SOURCE -o FILE`: all stages from a text to a cartridge. */
export function addBuildCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program
      .command('build')
      .description('make a cartridge from a text: self-study, then training')
      .argument('<source>', 'text file or folder')
      .requiredOption('-o, --output <file>', 'cartridge file to write')
      .addOption(
        new SettingOption('--tokens <p>', 'training.tokens', 'rows of the cartridge; by default from the length of the text'),
      )
      .addOption(new SettingOption('--minutes <m>', 'minutes', 'bound of the whole build'))
      .addOption(new SettingOption('--conversations <n>', 'synthesis.conversations', 'conversations to attempt'))
      .addOption(new SettingOption('--steps <n>', 'training.steps', 'optimiser steps')),
  ).action((source, { output: path }, command) =>
    runCommand(
      terminal,
      command,
      async ({ output, settings: resolve, run }) => {
        const startedAt = performance.now();
        const settings = await resolve();
        checkCartridgePath(path);
        await withCorpus(settings, source, run, async (session, corpus) => {
          const { buildCartridge } = await import('../../pipeline/build.js');
          const { result } = await buildCartridge({ session, corpus, settings, output: path, startedAt, ...run });
          output.result(result, () => describe(result, corpus.tokens, String(settings.model)));
        });
      },
      CONTINUES_HINT,
    ),
  );
}

/** Throws `INVALID_OPTION` for a name that other commands would not take for a cartridge. */
export function checkCartridgePath(path: string): void {
  if (path.endsWith('.safetensors')) return;
  throw new CartridgesError('INVALID_OPTION', `the output ${path} does not end in .safetensors`, {
    hint: `use -o ${path}.cartridge.safetensors`,
  });
}

/** Updates and, where conversations were held out, what they came to. */
export function describeSteps({ steps, validationKl }: BuildResult): string {
  return validationKl === null ? `${steps} steps` : `${steps} steps, validation KL ${validationKl.toFixed(4)}`;
}

function describe(result: BuildResult, corpusTokens: number, model: string): string {
  return [
    `${result.path}: ${result.tokens} rows for a text of ${corpusTokens} tokens`,
    `${result.conversations} conversations, ${describeSteps(result)}, ${result.seconds.total.toFixed(0)} s`,
    `ask it: cartridges chat --model ${model} --cartridge ${result.path}`,
  ].join('\n');
}
