import { CommanderError } from 'commander';
import { reportError } from './errors.js';
import { createProgram } from './program.js';
import type { Terminal } from './terminal.js';

/** Runs the command line and ends the process: native libraries may keep threads that would hold it. */
export async function main(commandLine: readonly string[]): Promise<never> {
  // A reader that has seen enough, such as `head`, closes the pipe.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 70));
  // Nobody reads the progress any more. The work may be hours old, and its result goes elsewhere.
  process.stderr.on('error', () => undefined);
  const status = await runCommandLine(commandLine, process);
  await written(process.stdout);
  await written(process.stderr);
  process.exit(status);
}

/** Runs the command line and returns the exit status. */
export async function runCommandLine(commandLine: readonly string[], terminal: Terminal): Promise<number> {
  try {
    await createProgram(terminal).parseAsync(commandLine, { from: 'user' });
    return 0;
  } catch (thrown) {
    // Help and version have been printed; a call without a command printed the help too, and is a mistake.
    if (thrown instanceof CommanderError && thrown.code === 'commander.help') return 2;
    if (thrown instanceof CommanderError && thrown.exitCode === 0) return 0;
    return reportError(thrown, terminal.stderr, commandLine.includes('--verbose'));
  }
}

/** Resolves when everything written so far has left the process. */
function written(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => stream.write('', () => resolve()));
}
