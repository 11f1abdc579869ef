import type { Command } from '@commander-js/extra-typings';
import type { TuneReport, TuningTrial } from '../../pipeline/tune.js';
import { formatTable } from '../format.js';
import { withSettingsOptions } from '../options.js';
import { runCommand } from '../run-command.js';
import { requireModel } from '../settings.js';
import type { Terminal } from '../terminal.js';

/** `cartridges tune`: the fastest settings of the engine for a model on this machine. */
export function addTuneCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program
      .command('tune')
      .description('measure which settings of the engine are fastest for a model on this processor, and keep them'),
  ).action((_flags, command) =>
    runCommand(terminal, command, async ({ output, settings: resolve, run }) => {
      const settings = await resolve();
      const { tuneModel } = await import('../../pipeline/tune.js');
      const report = await tuneModel({ model: requireModel(settings), threads: settings.threads, ...run });
      output.result(report, () => describe(report));
    }),
  );
}

function describe({ standard, chosen, trials, path }: TuneReport): string {
  const header = ['', 'threads', 'alone', 'batch', 'flash', 'cache', 'repack', 'weights', 'prompt', 'decode', 'alone', 'work'];
  const rows = trials.map((trial) => [nameOf(trial, standard, chosen), ...cellsOf(trial)]);
  const gain = standard.milliseconds / chosen.milliseconds;
  const verdict =
    chosen === standard ? 'nothing is faster than the defaults' : `${gain.toFixed(2)} times as fast as the defaults`;
  return `${formatTable([header, ...rows])}tokens/s and ms; ${verdict}; kept in ${path}`;
}

function nameOf(trial: TuningTrial, standard: TuningTrial, chosen: TuningTrial): string {
  if (trial === chosen) return 'chosen';
  return trial === standard ? 'default' : '';
}

function cellsOf({ tuning, speed, milliseconds }: TuningTrial): string[] {
  const { threads, decodeThreads, batchTokens, flashAttention, cacheType, extraBuffers, weights } = tuning;
  const [flash, repack] = [flashAttention, extraBuffers].map((isOn) => (isOn ? 'on' : 'off'));
  const settings = [threads, decodeThreads, batchTokens, flash, cacheType, repack, weights];
  return [...settings, ...[speed.prompt, speed.decode, speed.decodeAlone, milliseconds].map((value) => value.toFixed(0))].map(
    String,
  );
}
