const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** A byte count in the unit that keeps it short: 512 B, 1.5 KiB, 20.3 MiB. */
export function formatBytes(bytes: number): string {
  const power = bytes < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  return power === 0 ? `${Math.round(bytes)} B` : `${(bytes / 2 ** (10 * power)).toFixed(1)} ${UNITS[power]}`;
}

/** Bytes of a count or a text such as `4GiB`; undefined when it is neither, or less than a byte. */
export function parseBytes(size: number | string): number | undefined {
  const [, count, unit = 'B'] = /^(\d+(?:\.\d+)?) ?([KMGT]iB|B)?$/.exec(String(size).trim()) ?? [];
  const bytes = Math.floor(Number(count) * 1024 ** UNITS.indexOf(unit));
  return bytes >= 1 && Number.isSafeInteger(bytes) ? bytes : undefined;
}
