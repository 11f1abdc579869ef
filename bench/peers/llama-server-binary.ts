import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder } from '../../src/core/environment.js';
import { ENGINE_PACKAGE_VERSION } from '../../src/native/engine-files.js';
import { progress } from '../support/report.js';

/**
 * `llama-server` of the llama.cpp version that the engine is of, as its project ships it. The npm package node-llama-cpp holds the
 * source as a git bundle; it takes git, cmake and a C++ compiler to build, and a few minutes to a quarter of an hour.
 */

const PACKAGE = `node-llama-cpp@${ENGINE_PACKAGE_VERSION}`;
const BUNDLE = 'package/llama/gitRelease.bundle';
const EXECUTABLE = process.platform === 'win32' ? 'llama-server.exe' : 'llama-server';

/** For the processor at hand, one file without libraries of its own, and nothing that would be fetched while it builds. */
const BUILD_OPTIONS = [
  'CMAKE_BUILD_TYPE=Release',
  'BUILD_SHARED_LIBS=OFF',
  'GGML_NATIVE=ON',
  'LLAMA_BUILD_UI=OFF',
  'LLAMA_USE_PREBUILT_UI=OFF',
  'LLAMA_OPENSSL=OFF',
  'LLAMA_BUILD_TESTS=OFF',
  'LLAMA_BUILD_EXAMPLES=OFF',
  'LLAMA_BUILD_APP=OFF',
];

/** Where ggml sets up AMX's tiles. */
const TILE_SOURCE = 'ggml/src/ggml-cpu/amx/mmq.cpp';
/**
 * GCC before 13 takes the stores to the tiles' configuration for needless and leaves them out; the server would die in its first
 * product. Without these passes it keeps them.
 */
const KEEP_STORES = '#if defined(__GNUC__) && !defined(__clang__)\n#pragma GCC optimize("no-tree-dse", "no-dse")\n#endif\n';

/** The server that is there: `CARTRIDGES_LLAMA_SERVER`, else the one that was built before; undefined when there is none. */
export function findLlamaServer(): string | undefined {
  const named = process.env['CARTRIDGES_LLAMA_SERVER'];
  if (named) return named;
  const built = join(buildFolder(), EXECUTABLE);
  return existsSync(built) ? built : undefined;
}

/**
 * Builds the server in the cache folder with `jobs` compilers at once, and returns its path. An interrupted build continues.
 * Throws an Error with the last words of the command that failed.
 */
export async function buildLlamaServer(jobs = availableParallelism()): Promise<string> {
  const folder = buildFolder();
  const [source, build, server] = [join(folder, 'source'), join(folder, 'build'), join(folder, EXECUTABLE)];
  if (!existsSync(source)) await fetchSource(source);
  progress(`building llama-server in ${build}`);
  await execute(folder, 'cmake', '-S', source, '-B', build, ...BUILD_OPTIONS.map((option) => `-D${option}`));
  const target = ['--config', 'Release', '--target', 'llama-server', '--parallel', String(jobs)];
  await execute(folder, 'cmake', '--build', build, ...target);
  // Generators for several configurations, as those of Visual Studio, have a folder for each.
  const places = [join(build, 'bin', EXECUTABLE), join(build, 'bin', 'Release', EXECUTABLE)];
  await copyFile(places.find(existsSync) ?? places[0]!, `${server}.part`);
  await rename(`${server}.part`, server);
  for (const path of [source, build]) await rm(path, { recursive: true });
  return server;
}

function buildFolder(): string {
  return join(cacheFolder(), 'bench', `llama.cpp-${ENGINE_PACKAGE_VERSION}`);
}

/** Renamed when it is whole, so that an interrupted fetch is made again. */
async function fetchSource(source: string): Promise<void> {
  const part = `${source}.part`;
  progress(`fetching ${PACKAGE}, which holds the source of llama.cpp`);
  await rm(part, { recursive: true, force: true });
  await mkdir(part, { recursive: true });
  const packed = await execute(part, 'npm', 'pack', PACKAGE, '--json');
  const [{ filename }] = JSON.parse(packed) as [{ filename: string }];
  await execute(part, 'tar', '-xzf', filename, BUNDLE);
  await execute(part, 'git', 'clone', '--quiet', '-c', 'advice.detachedHead=false', BUNDLE, 'llama.cpp');
  const tiles = join(part, 'llama.cpp', TILE_SOURCE);
  await writeFile(tiles, KEEP_STORES + (await readFile(tiles, 'utf8')));
  await rename(join(part, 'llama.cpp'), source);
  await rm(part, { recursive: true });
}

const MAX_OUTPUT_BYTES = 64 << 20;

async function execute(folder: string, command: string, ...args: string[]): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(command, args, { cwd: folder, maxBuffer: MAX_OUTPUT_BYTES });
    return stdout;
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    throw new Error(`${command} failed: ${(stderr || message).trim().split('\n').at(-1)}`);
  }
}
