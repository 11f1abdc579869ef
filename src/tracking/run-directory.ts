import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { rethrow, toCartridgesError } from '../core/errors.js';
import { writeFileAtomic, writeJsonAtomic } from '../core/files.js';
import { tryParse } from '../core/json.js';
import type { Row, RunTracker } from './run-tracker.js';

/**
 * A run's own folder: `settings.json` when it starts, `metrics.jsonl` (one line a step, appended as they come, so that a
 * killed run leaves what it had), `tables/NAME.jsonl`, and `summary.json` when it ends.
 */
export class RunDirectory implements RunTracker {
  readonly folder: string;
  #metrics: WriteStream | undefined;
  readonly #tables: Promise<void>[] = [];
  #failure: unknown;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Makes the folder and writes the settings. Throws `DISK_FULL` or `INVALID_INPUT` when it cannot. */
  static async create(folder: string, settings: Record<string, unknown>): Promise<RunDirectory> {
    await mkdir(folder, { recursive: true }).catch(rethrow);
    await writeJsonAtomic(join(folder, 'settings.json'), settings);
    return new RunDirectory(folder);
  }

  /** To be called before the first {@link log}. */
  async continueAfter(step: number): Promise<void> {
    const path = metricsPath(this.folder);
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text === undefined) return;
    // Of a run that was killed the last line may be half there.
    const kept = text.split('\n').filter((line) => ((tryParse(line) as Metrics | undefined)?.step ?? Number.NaN) <= step);
    await writeFileAtomic(path, kept.map((line) => `${line}\n`).join(''));
  }

  log(step: number, values: Record<string, number>): void {
    this.#metrics ??= this.#openMetrics();
    this.#metrics.write(`${JSON.stringify({ step, time: new Date().toISOString(), ...values })}\n`);
  }

  table(name: string, rows: readonly Row[]): void {
    const lines = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
    this.#tables.push(writeFileAtomic(join(this.folder, 'tables', `${name}.jsonl`), lines));
  }

  /** Waits for everything written and adds the summary. Throws what a write ran into: a full disk must not pass unseen. */
  async finish(summary: Record<string, unknown>): Promise<void> {
    await this.close();
    await writeJsonAtomic(join(this.folder, 'summary.json'), summary);
  }

  /** Waits for everything written. Throws what a write ran into. */
  async close(): Promise<void> {
    if (this.#metrics) {
      this.#metrics.end();
      await finished(this.#metrics).catch((error) => {
        this.#failure ??= error;
      });
    }
    await Promise.all(this.#tables);
    if (this.#failure) throw toCartridgesError(this.#failure);
  }

  #openMetrics(): WriteStream {
    const stream = createWriteStream(metricsPath(this.folder), { flags: 'a' });
    return stream.on('error', (error) => {
      this.#failure ??= error;
    });
  }
}

/** A line of `metrics.jsonl`. */
interface Metrics {
  step: number;
}

function metricsPath(folder: string): string {
  return join(folder, 'metrics.jsonl');
}

/** The metrics of a run, in the order they were logged. */
export async function readMetrics(folder: string): Promise<Record<string, number | string>[]> {
  const text = await readFile(metricsPath(folder), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}
