import type { Command } from '@commander-js/extra-typings';
import type { VerifyReport } from '../../pipeline/verify.js';
import { formatTable } from '../format.js';
import { withSettingsOptions } from '../options.js';
import { runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';
import { withSession } from '../with-session.js';

const DEFAULT_TEXT = 'What does the text say, and who or what is it about? Name everything that you know of it.';

/** `cartridges verify`: the equivalence gate between the student and libllama. */
export function addVerifyCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program
      .command('verify')
      .description('check that training and serving give the same logits behind a cartridge')
      .requiredOption('--cartridge <file>', 'cartridge file')
      .option('--text <text>', 'what is read behind the cartridge', DEFAULT_TEXT)
      .option('--allow-quantization', 'take a cartridge of another quantisation of the same model'),
  ).action(({ cartridge: path, text, allowQuantization = false }, command) =>
    runCommand(terminal, command, async ({ output, settings: resolve, run }) => {
      const settings = await resolve();
      await withSession(settings, run, async (session) => {
        const { openCartridge } = await import('../../pipeline/open-cartridge.js');
        const { assertEquivalence, verifyEquivalence } = await import('../../pipeline/verify.js');
        const { cartridge } = await openCartridge(path, session, { allowQuantization });
        const report = await verifyEquivalence({ session, cartridge, text, ...run });
        output.result(report, () => describe(report));
        assertEquivalence(report);
      });
    }),
  );
}

function describe({ quantization, checks, tokens }: VerifyReport): string {
  const header = ['libllama', 'max |Δlogit|', 'mean KL', 'best token agrees', ''];
  const rows = checks.map(({ engine, largest, meanKl, agreement, passed }) => [
    engine,
    largest.toExponential(2),
    meanKl.toExponential(2),
    `${(agreement * 100).toFixed(0)} %`,
    passed ? 'passed' : 'FAILED',
  ]);
  return `${tokens} tokens behind the cartridge, weights ${quantization}\n${formatTable([header, ...rows])}`;
}
