/** A stream of text; `process.stdout` and `process.stderr` are such. */
export interface TextStream {
  write(text: string): unknown;
  isTTY?: boolean;
  columns?: number;
}

/** Where a command writes: results to stdout, everything else to stderr. Tests pass their own. */
export interface Terminal {
  stdout: TextStream;
  stderr: TextStream;
}
