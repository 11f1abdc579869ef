import type { Command } from '@commander-js/extra-typings';
import { CartridgesError } from '../../core/errors.js';
import type { QuickstartReport } from '../../pipeline/quickstart.js';
import { withSettingsOptions } from '../options.js';
import { runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';

/** `cartridges quickstart`: the whole path on the model and a text that come with the package. */
export function addQuickstartCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program
      .command('quickstart')
      .description('the whole path on a small model and a sample text, in less than two minutes')
      .option('--corpus <name>', 'a folder of examples/corpora', 'harbour')
      .option('-o, --output <file>', 'cartridge file to write', 'quickstart.cartridge.safetensors'),
  ).action(({ corpus, output: path }, command) =>
    runCommand(
      terminal,
      command,
      async ({ output, settings: resolve, run }) => {
        refuseOtherModels(command.getOptionValue('model'));
        // A config file here is for the user's own text: its time limit and its size would not be those of the quickstart.
        const settings = await resolve({ findConfig: false });
        const { quickstart } = await import('../../pipeline/quickstart.js');
        const { formatReport } = await import('../../evaluation/report.js');
        const report = await quickstart({ settings, corpus, output: path, ...run });
        output.result(report, () => describe(report, formatReport(report)));
      },
      'start it again: it is short',
    ),
  );
}

function refuseOtherModels(model: unknown): void {
  if (model === undefined || model === 'pocket') return;
  throw new CartridgesError('INVALID_OPTION', 'the quickstart always takes the pocket model', {
    hint: `for ${model}: cartridges build SOURCE -o FILE --model ${model}`,
  });
}

function describe(report: QuickstartReport, table: string): string {
  const answers = report.answers.flatMap(({ question, reply, expected, correct }) => [
    `  ${question}`,
    `  → ${reply}${correct ? '' : `   (wrong: ${expected})`}`,
  ]);
  const { cartridge, corpus, build, seconds } = report;
  return [
    '',
    `A cartridge of ${cartridge.tokens} rows for a text of ${corpus.tokens} tokens, ${report.compression.toFixed(1)} times smaller,`,
    `made from ${build.conversations} conversations in ${build.steps} steps; all in ${seconds.total.toFixed(0)} s.`,
    '',
    table.trimEnd(),
    '',
    'The cartridge answers:',
    ...answers,
    '',
    'Ask it yourself:',
    `  npx cartridges chat --model pocket --cartridge ${cartridge.path}`,
    'The same with your own text and a real model (the pocket model only reads short invented facts):',
    '  npx cartridges models pull ORGANISATION/NAME-GGUF',
    '  npx cartridges build notes.txt -o notes.cartridge.safetensors --model ORGANISATION/NAME-GGUF --minutes 30',
  ].join('\n');
}
