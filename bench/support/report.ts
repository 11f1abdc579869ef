import type { Machine } from './machine.js';
import { significant } from './statistics.js';

/** One figure beside the rival's. `ratio` > 1 is better for us; `rival` is null with the reason in `rivalName`. */
export interface BenchCase {
  case: string;
  unit: string;
  ours: number;
  rival: number | null;
  rivalName: string;
  ratio: number | null;
}

export interface BenchReport {
  name: string;
  machine: Machine;
  cases: BenchCase[];
  /** What a reader must know beside the figures: the types chosen, how busy the machine was. */
  notes?: string[];
  /** Why nothing was measured. */
  skipped?: string;
}

/** A case, with the ratio worked out: for `lower` a smaller figure is the better one. */
export function comparison(fields: Omit<BenchCase, 'ratio'>, better: 'higher' | 'lower' = 'higher'): BenchCase {
  const { ours, rival } = fields;
  const ratio = rival === null ? null : significant(better === 'higher' ? ours / rival : rival / ours);
  return { ...fields, ours: significant(ours), rival: rival === null ? null : significant(rival), ratio };
}

/** Progress of a bench: stderr, so that stdout keeps the result alone. */
export function progress(message: string): void {
  process.stderr.write(`${message}\n`);
}

/** Writes the report to stdout: one JSON object, or a table to read. */
export function printReport(report: BenchReport, asJson: boolean): void {
  process.stdout.write(asJson ? `${JSON.stringify(report)}\n` : renderReport(report));
}

export function renderReport({ name, machine, cases, notes = [], skipped }: BenchReport): string {
  const gibibytes = (machine.memoryBytes / 2 ** 30).toFixed(0);
  const head = [
    `${name}: ${machine.cpu}, ${machine.cores} cores, ${gibibytes} GiB (${machine.flags.join(' ')})`,
    `${machine.system}, Node ${machine.node}, ${machine.engine}, load before ${machine.loadBefore.toFixed(2)}`,
  ];
  if (skipped !== undefined) return `${[...head, `skipped: ${skipped}`].join('\n')}\n`;
  const rows = cases.map((entry) => [
    entry.case,
    entry.unit,
    String(entry.ours),
    entry.rival === null ? '–' : String(entry.rival),
    entry.rivalName,
    entry.ratio === null ? '–' : String(entry.ratio),
  ]);
  const table = alignColumns([['case', 'unit', 'ours', 'rival', 'rival name', 'ratio'], ...rows]);
  return `${[...head, '', ...table, ...(notes.length > 0 ? ['', ...notes] : [])].join('\n')}\n`;
}

function alignColumns(rows: readonly string[][]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
}
