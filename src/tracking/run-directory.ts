import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { rethrow, toCartridgesError } from '../core/errors.js';
import { writeFileAtomic, writeJsonAtomic } from '../core/files.js';
import type { Row, RunTracker } from './run-tracker.js';

/**
 * A run's own folder: `settings.json` when it starts, `metrics.jsonl` (one line a step, appended as they come, so that a
 * killed run leaves what it had), `tables/NAME.jsonl`, and `summary.json` when it ends.
 */
export class RunDirectory implements RunTracker {
  readonly folder: string;
  readonly #metrics: WriteStream;
  readonly #tables: Promise<void>[] = [];
  #failure: unknown;

  private constructor(folder: string) {
    this.folder = folder;
    this.#metrics = createWriteStream(join(folder, 'metrics.jsonl'), { flags: 'a' });
    this.#metrics.on('error', (error) => {
      this.#failure ??= error;
    });
  }

  /** Makes the folder and writes the settings. Throws `DISK_FULL` or `INVALID_INPUT` when it cannot. */
  static async create(folder: string, settings: Record<string, unknown>): Promise<RunDirectory> {
    await mkdir(folder, { recursive: true }).catch(rethrow);
    await writeJsonAtomic(join(folder, 'settings.json'), settings);
    return new RunDirectory(folder);
  }

  log(step: number, values: Record<string, number>): void {
    this.#metrics.write(`${JSON.stringify({ step, time: new Date().toISOString(), ...values })}\n`);
  }

  table(name: string, rows: readonly Row[]): void {
    const lines = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
    this.#tables.push(writeFileAtomic(join(this.folder, 'tables', `${name}.jsonl`), lines));
  }

  /** Waits for everything written and adds the summary. Throws what a write ran into: a full disk must not pass unseen. */
  async finish(summary: Record<string, unknown>): Promise<void> {
    this.#metrics.end();
    try {
      await finished(this.#metrics);
    } catch (error) {
      this.#failure ??= error;
    }
    await Promise.all(this.#tables);
    if (this.#failure) throw toCartridgesError(this.#failure);
    await writeJsonAtomic(join(this.folder, 'summary.json'), summary);
  }
}

/** The metrics of a run, in the order they were logged. */
export async function readMetrics(folder: string): Promise<Record<string, number | string>[]> {
  const text = await readFile(join(folder, 'metrics.jsonl'), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
}
