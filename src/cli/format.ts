/** A duration that is quick to read: 4.2 s, 3 min 20 s, 2 h 5 min. */
export function formatSeconds(seconds: number): string {
  if (seconds < 59.95) return `${seconds < 9.95 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const rounded = Math.round(seconds);
  if (rounded < 3600) return `${Math.floor(rounded / 60)} min ${rounded % 60} s`;
  const minutes = Math.round(rounded / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A measured value with the digits that matter: 0.1235, 12.3, 1234. */
export function formatValue(value: number): string {
  if (Number.isInteger(value) || !Number.isFinite(value)) return String(value);
  if (Math.abs(value) >= 1000) return String(Math.round(value));
  return String(Number(value.toPrecision(Math.abs(value) >= 10 ? 3 : 4)));
}

/** Rows of cells as lines; all columns to the left, two spaces between. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] as number))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** Text of a file that somebody else wrote, safe to show: control characters could move the cursor or colour the terminal. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, '\uFFFD');
}

/** The same, with the lines of the text put into one. */
export function printableLine(text: string): string {
  return printable(text.trim().replace(/\s*\n\s*/g, ' '));
}

/** The same for text of several lines, such as an answer: line ends and tabs stay. */
export function printableLines(text: string): string {
  return text.replaceAll('\r', '').replace(/[^\P{Cc}\n\t]/gu, '\uFFFD');
}
