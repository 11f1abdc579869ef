import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder of this package: what `models/` and `examples/` lie in. The same from `src/` and from `dist/`. */
export const packageRoot: string = fileURLToPath(new URL('../..', import.meta.url));

/** The version in package.json, for example `0.1.0`. */
export function packageVersion(): string {
  return JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')).version;
}
