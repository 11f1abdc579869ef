import type { Command } from '@commander-js/extra-typings';
import type { CartridgeHeader } from '../../cartridge/cartridge-file.js';
import { formatBytes } from '../../core/format-bytes.js';
import { formatTable, printable } from '../format.js';
import { withOutputOptions } from '../options.js';
import { runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';

/** `cartridges inspect FILE`: what a cartridge file says about itself. */
export function addInspectCommand(program: Command, terminal: Terminal): void {
  withOutputOptions(
    program
      .command('inspect')
      .description('show what a cartridge is made for and how it was made')
      .argument('<file>', 'cartridge file'),
  ).action((file, _flags, command) =>
    runCommand(terminal, command, async ({ output }) => {
      const { readCartridgeHeader } = await import('../../cartridge/cartridge-file.js');
      const header = await readCartridgeHeader(file);
      output.result({ path: file, ...header }, () => describeHeader(header));
    }),
  );
}

function describeHeader({ model, framing, receipt, ...header }: CartridgeHeader): string {
  const { architecture, layers, kvHeads, headDimension, quantization, weightsHash } = model;
  const rows: [string, string][] = [
    ['tokens', `${header.tokenCount}, the first ${header.frozenCount} not trained`],
    ['file', `${formatBytes(header.fileSize)}, ${header.storedAs}, content ${header.contentHash.slice(0, 12)}`],
    ['model', `${architecture} ${quantization}, weights ${weightsHash.slice(0, 12)}`],
    ['rows', `${layers} layers, ${kvHeads} key/value heads of ${headDimension}`],
    ['framing', `${framing.name} ${framing.hash.slice(0, 12)}`],
    ...Object.entries(receipt).map(([name, value]): [string, string] => [name, oneLine(value)]),
  ];
  return formatTable(rows.map((row) => row.map(printable)));
}

function oneLine(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > 200 ? `${text.slice(0, 199)}…` : text;
}
