export type Row = Record<string, string | number | boolean | null>;

/** Where a run's numbers go. */
export interface RunTracker {
  /** Forgets what was logged beyond this step: an earlier run in the same place went further than where this one begins. */
  continueAfter(step: number): Promise<void>;
  log(step: number, values: Record<string, number>): void;
  table(name: string, rows: readonly Row[]): void;
  finish(summary: Record<string, unknown>): Promise<void>;
  /** Ends a run that has no summary. */
  close(): Promise<void>;
}
