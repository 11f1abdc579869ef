import type { Command } from '@commander-js/extra-typings';
import { SettingOption, withSettingsOptions } from '../options.js';
import { CONTINUES_HINT, runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';
import { withCorpus } from '../with-session.js';

/** `cartridges synthesize SOURCE -o FOLDER`: self-study conversations with the teacher's log-probs. */
export function addSynthesizeCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program
      .command('synthesize')
      .description('make a dataset of conversations about a text')
      .argument('<source>', 'text file or folder')
      .requiredOption('-o, --output <folder>', 'folder of the dataset; an interrupted one is continued')
      .addOption(new SettingOption('--conversations <n>', 'synthesis.conversations', 'conversations to attempt'))
      .addOption(new SettingOption('--concurrency <n>', 'synthesis.concurrency', 'conversations at once')),
  ).action((source, { output: folder }, command) =>
    runCommand(
      terminal,
      command,
      async ({ output, settings: resolve, run }) => {
        const settings = await resolve();
        await withCorpus(settings, source, run, async (session, corpus) => {
          const { synthesizeDataset } = await import('../../pipeline/synthesize.js');
          const report = await synthesizeDataset({ session, corpus, settings, folder, ...run });
          output.result(report, () => {
            const { kept, attempted, duplicate, empty, truncated, unsure, repeated, failed } = report;
            return `${folder}: ${kept} of ${attempted} conversations kept (${duplicate} duplicate, ${empty} empty, ${truncated} cut, ${unsure} unsure, ${repeated} repeated, ${failed} failed)`;
          });
        });
      },
      CONTINUES_HINT,
    ),
  );
}
