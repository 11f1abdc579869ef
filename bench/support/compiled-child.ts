import { mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';
import { cacheFolder } from '../../src/core/environment.js';
import { packageRoot } from '../../src/core/package.js';

const SOURCES = '../../src/';

/** Has a child import the package as it is published, from dist/. */
const fromPublished: Plugin = {
  name: 'from-published',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\.\/\.\.\/src\// }, ({ path }) => ({
      path: pathToFileURL(join(packageRoot, 'dist', path.slice(SOURCES.length))).href,
      external: true,
    }));
  },
};

/**
 * Compiles a file of `bench/children/` and brings dist/ up to date: the command that is returned runs the package as users
 * have it. Run from its sources it would carry a translator of TypeScript in every thread, 70 MiB each.
 */
export async function compiledCommand(file: URL): Promise<[string, string]> {
  const { buildWhenStale } = await import(pathToFileURL(join(packageRoot, 'bin', 'build-when-stale.js')).href);
  buildWhenStale(packageRoot);
  const folder = join(cacheFolder(), 'bench', 'compiled');
  mkdirSync(folder, { recursive: true });
  const outfile = join(folder, `${basename(file.pathname, '.ts')}.mjs`);
  const plugins = [fromPublished];
  await build({ entryPoints: [fileURLToPath(file)], outfile, bundle: true, platform: 'node', format: 'esm', plugins });
  return [process.execPath, outfile];
}
