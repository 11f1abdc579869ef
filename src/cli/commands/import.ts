import { type Command, Option } from '@commander-js/extra-typings';
import type { FloatType } from '../../cartridge/float-conversion.js';
import { withSettingsOptions } from '../options.js';
import { runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';
import { withSession } from '../with-session.js';
import { checkCartridgePath } from './build.js';

const TYPES: readonly FloatType[] = ['bf16', 'f16', 'f32'];

/** `cartridges import FILE.pt --model M -o FILE`: a cartridge of the Python project. */
export function addImportCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program
      .command('import')
      .description('read a cartridge that the Python project saved')
      .argument('<file>', '.pt file; nothing in it is executed')
      .requiredOption('-o, --output <file>', 'cartridge file to write')
      .addOption(new Option('--type <type>', 'number type of the rows; by default as they are').choices(TYPES)),
  ).action((file, { output: path, type }, command) =>
    runCommand(terminal, command, async ({ output, settings, run }) => {
      checkCartridgePath(path);
      await withSession(await settings(), run, async (session) => {
        const { writeCartridge } = await import('../../cartridge/cartridge-file.js');
        const { readCheckpoint } = await import('../../cartridge/converters/read-checkpoint.js');
        const { fingerprint: model, framing } = session;
        const owner = { model, framing: { name: framing.name, hash: framing.hash } };
        const { cartridge, type: found } = await readCheckpoint(file, owner);
        const storedAs = type ?? found;
        await writeCartridge(path, cartridge, { dtype: storedAs });
        // Nothing in the file could contradict it.
        run.onProgress({
          kind: 'note',
          stage: 'convert',
          message: `taken for a cartridge of ${session.path}; the file does not say`,
        });
        const { tokenCount: tokens, frozenCount: frozen } = cartridge;
        output.result({ path, tokens, frozen, storedAs }, () => `${path}: ${tokens} rows, ${frozen} of them frozen, ${storedAs}`);
      });
    }),
  );
}
