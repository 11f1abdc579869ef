import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { readEnvironment } from '../core/environment.js';
import type { RunOptions } from '../core/progress.js';
import type { Settings } from '../pipeline/settings.js';
import { listenForInterrupt } from './interrupt.js';
import type { OutputFlags } from './options.js';
import { Output } from './output.js';
import { ProgressDisplay } from './progress-display.js';
import type { SettingsSources } from './settings.js';
import type { Terminal } from './terminal.js';

/** What the body of a command works with. */
export interface CommandContext {
  output: Output;
  /** Resolves the settings of the command from its flags, the config file and the environment. */
  settings: (sources?: SettingsSources) => Promise<Settings>;
  /** Progress and cancellation, to hand to the library. */
  run: Required<RunOptions>;
}

/** What Ctrl-C says of a command that keeps what is finished. */
export const CONTINUES_HINT = 'the same command continues with what is finished';
/** And of one that has nothing to keep. */
const STARTS_OVER_HINT = 'nothing is kept, the same command starts over';

/**
 * Runs the body of a command with its progress drawn on stderr and Ctrl-C turned into an AbortSignal.
 *
 * @param resumeHint  What the user can do after Ctrl-C, one sentence without a full stop.
 */
export async function runCommand(
  terminal: Terminal,
  command: CommandUnknownOpts,
  body: (context: CommandContext) => Promise<void>,
  resumeHint: string = STARTS_OVER_HINT,
): Promise<void> {
  const { json = false, quiet = false } = command.opts() as OutputFlags;
  const interactive = terminal.stderr.isTTY === true && !readEnvironment().continuousIntegration;
  const display = new ProgressDisplay(terminal.stderr, { quiet, interactive });
  const interrupt = listenForInterrupt(process, terminal.stderr, resumeHint);
  try {
    await body({
      output: new Output(terminal, json),
      settings: (sources) => resolveSettings(command, sources),
      run: { onProgress: display.listen, signal: interrupt.signal },
    });
  } finally {
    interrupt.dispose();
    display.clear();
  }
}

/** Loaded only when a command has settings: the schema library would double the time of `--help`. */
async function resolveSettings(command: CommandUnknownOpts, sources?: SettingsSources): Promise<Settings> {
  const { commandSettings } = await import('./settings.js');
  return commandSettings(command, sources);
}
