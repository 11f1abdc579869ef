import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** Compiles the sources of a clone when `dist/` is missing or older than they are. Ends the process with status 70 when it fails. */
export function buildWhenStale(packageRoot) {
  if (!existsSync(join(packageRoot, 'src'))) return;
  const newestSource = newestSourceTime(packageRoot);
  if (isFresh(packageRoot, newestSource)) return;
  process.stderr.write('building dist/ …\n');
  // Another process may finish the same build meanwhile; it may already run from it.
  replaceBuild(packageRoot, compile, (newest) => !isFresh(packageRoot, newest));
}

/**
 * Has `compile(packageRoot, folder)` write a build into a folder of its own, which then takes the place of `dist/`: builds that run
 * at once do not mix. The build is fresh until a source changes.
 */
export function replaceBuild(packageRoot, compile, isWanted = () => true) {
  const newestSource = newestSourceTime(packageRoot);
  const folder = join(packageRoot, '.cache', `build-${process.pid}`);
  try {
    compile(packageRoot, folder);
    writeFileSync(join(folder, '.stamp'), String(newestSource));
    if (isWanted(newestSource)) replaceFolder(join(packageRoot, 'dist'), folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Milliseconds of the last change of anything the build reads. Folders count too: their time tells of files that went away. */
function newestSourceTime(packageRoot) {
  const settings = readdirSync(packageRoot).filter((name) => /^(tsconfig.*|package)\.json$/.test(name));
  const sources = readdirSync(join(packageRoot, 'src'), { recursive: true }).map((name) => join('src', name));
  return Math.max(...['src', ...sources, ...settings].map((name) => statSync(join(packageRoot, name)).mtimeMs));
}

function isFresh(packageRoot, newestSource) {
  const stamp = join(packageRoot, 'dist', '.stamp');
  return existsSync(stamp) && Number(readFileSync(stamp, 'utf8')) >= newestSource;
}

/** Types are not checked: `npm run check` does that, and nobody wants to wait for it before a command starts. */
function compile(packageRoot, folder) {
  const { buildSync } = loadCompiler(packageRoot);
  const source = join(packageRoot, 'src');
  const files = readdirSync(source, { recursive: true }).filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'));
  try {
    const entryPoints = files.map((name) => join(source, name));
    buildSync({ entryPoints, outdir: folder, outbase: source, format: 'esm', target: 'node20', sourcemap: true });
  } catch {
    // The compiler has written to stderr where it is wrong.
    rmSync(folder, { recursive: true, force: true });
    fail('the sources do not compile', 'the messages above say where; npm run check shows them again');
  }
}

function loadCompiler(packageRoot) {
  try {
    return createRequire(join(packageRoot, 'package.json'))('esbuild');
  } catch {
    return fail('the dependencies are not installed', `run: npm ci --ignore-scripts (in ${packageRoot})`);
  }
}

function replaceFolder(target, replacement) {
  const retired = `${replacement}-old`;
  if (existsSync(target)) renameSync(target, retired);
  renameSync(replacement, target);
  rmSync(retired, { recursive: true, force: true });
}

function fail(message, hint) {
  process.stderr.write(`error: ${message}\n  hint: ${hint}\n`);
  process.exit(70);
}
