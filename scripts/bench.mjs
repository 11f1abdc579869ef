// `npm run bench -- NAME [--json]`: installs when needed, then runs bench/NAME.ts.

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ensureInstalled, packageRoot } from './ensure-installed.mjs';

const [name, ...rest] = process.argv.slice(2);
const file = join(packageRoot, 'bench', `${name}.ts`);
if (!/^[\w-]+$/.test(name ?? '') || !existsSync(file)) {
  const names = readdirSync(join(packageRoot, 'bench'))
    .filter((entry) => entry.endsWith('.ts'))
    .map((entry) => entry.slice(0, -3));
  process.stderr.write(`error: ${name === undefined ? 'name a benchmark' : `there is no benchmark ${name}`}\n`);
  process.stderr.write(`  hint: npm run bench -- NAME [--json], where NAME is one of: ${names.join(', ') || 'none yet'}\n`);
  process.exit(2);
}

ensureInstalled();
const { register } = await import('tsx/esm/api');
register();
process.argv = [process.argv[0], file, ...rest];
await import(pathToFileURL(file).href);
