import { readFileSync } from 'node:fs';

/** `/proc` says it as a list of numbers and ranges, such as `0-3,8`. */
const ALLOWED_LINE = /^Cpus_allowed_list:\s*(\S+)$/m;

/** The numbers of the processors that this process may use; undefined on systems that do not say so. */
export function allowedProcessors(): number[] | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    const [, list] = ALLOWED_LINE.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
    return list === undefined ? undefined : parseProcessorList(list);
  } catch {
    // Without /proc threads run where the system puts them.
    return undefined;
  }
}

export function parseProcessorList(list: string): number[] {
  return list.split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number) as [number, number?];
    return Array.from({ length: last! - first + 1 }, (_, index) => first + index);
  });
}
