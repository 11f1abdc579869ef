import type { Command } from '@commander-js/extra-typings';
import { CartridgesError } from '../../core/errors.js';
import { formatBytes } from '../../core/format-bytes.js';
import type { DoctorReport } from '../../pipeline/doctor.js';
import type { ProviderSpeed } from '../../tensor/products/product-trial.js';
import { formatTable } from '../format.js';
import { withSettingsOptions } from '../options.js';
import { runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';

/** `cartridges doctor`: devices, libraries, memory, and what is missing. */
export function addDoctorCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program.command('doctor').description('show devices, libraries and memory, and how to get what is missing'),
  ).action((_flags, command) =>
    runCommand(terminal, command, async ({ output, settings: resolve }) => {
      const { device, threads } = await resolve();
      const { examine } = await import('../../pipeline/doctor.js');
      const report = await examine({ device, threads });
      output.result(report, () => describe(report));
      const missing = report.advice.find(({ required }) => required);
      if (missing) throw new CartridgesError('ENGINE_MISSING', missing.problem, { hint: missing.command });
    }),
  );
}

function describe(report: DoctorReport): string {
  const { machine, engine, devices, products, training, models, folders, advice } = report;
  const rows = [
    ['cartridges', `${report.version} on Node ${report.node}`],
    ['processor', `${machine.processor}, ${machine.processors} threads`],
    ['memory', `${formatBytes(machine.freeMemoryBytes)} free of ${formatBytes(machine.memoryBytes)}`],
    ['engine', engine ? `llama.cpp ${engine.llama}, ggml ${engine.ggml}` : 'not found'],
    ...devices.map((device) => ['device', `${device.name}: ${device.description}, ${formatBytes(device.memoryBytes)}`]),
    ...(products ? [['products', `${products.measured.map(speed).join(', ')}; training uses ${products.chosen}`]] : []),
    ...(training ? [['one core', training.measured.map(coreSpeed).join(', ')]] : []),
    ['oneDNN', training?.oneDnn ?? 'not found'],
    ['models', models.join(', ')],
    ['caches', `${folders.cache}, ${folders.hub}`],
  ];
  const lines = advice.map(({ problem, command, required }) => `${required ? 'missing' : 'optional'}: ${problem}\n  ${command}`);
  return [formatTable(rows), ...lines].join('\n');
}

function speed({ name, bufferType, gigaflops }: { name: string; bufferType?: string; gigaflops: number }): string {
  return `${name}${bufferType ? ` in ${bufferType}` : ''} ${gigaflops.toFixed(0)} GFLOPS`;
}

function coreSpeed({ products, weightType, gigaflops, implementations }: ProviderSpeed): string {
  const code = products.provider === 'oneDNN' ? ` (${implementations.join(', ')})` : '';
  return `${products.provider} ${weightType} ${gigaflops.toFixed(0)} GFLOPS${code}`;
}
