import { readFileSync, writeFileSync } from 'node:fs';

/** Writes a copy of oneDNN that says it is another release: that is the struct which `dnnl_version` returns. */
export function copyOneDnn({ path, version }: { path: string; version: string }, target: string, release: string): string {
  const bytes = readFileSync(path);
  const numbersOf = (name: string) => Buffer.from(Int32Array.of(...name.split('.').map(Number), 0).buffer);
  numbersOf(release).copy(bytes, bytes.indexOf(numbersOf(version)));
  writeFileSync(target, bytes);
  return target;
}
