export type Row = Record<string, string | number | boolean | null>;

/** Where a run's numbers go. */
export interface RunTracker {
  log(step: number, values: Record<string, number>): void;
  table(name: string, rows: readonly Row[]): void;
  finish(summary: Record<string, unknown>): Promise<void>;
}
