import { readEnvironment } from '../../core/environment.js';
import { koffi, type LibraryHandle } from '../koffi.js';
import { bindOneDnn, type OneDnnBindings } from './bindings.js';
import type { DescriptorApi } from './descriptors.js';
import { descriptors2 } from './descriptors-2.js';
import { descriptors3 } from './descriptors-3.js';

/** A loaded oneDNN, with products on one thread of the calling thread. */
export interface OneDnnLibrary {
  /** A file, or a name that the system's loader knows. */
  path: string;
  /** For example `3.2.0`. */
  version: string;
  bindings: OneDnnBindings;
  descriptors: DescriptorApi;
}

/** `missing`: there is none on this system, which is usual. `unusable`: there is one, and it should be known why it is not taken. */
export type OneDnnSearch =
  | { state: 'found'; library: OneDnnLibrary }
  | { state: 'missing' }
  | { state: 'unusable'; problem: string };

const SYSTEM_NAMES: Readonly<Record<string, readonly string[]>> = {
  linux: ['libdnnl.so.3', 'libdnnl.so.2'],
  darwin: ['libdnnl.3.dylib', 'libdnnl.dylib'],
  win32: ['dnnl.dll'],
};

/** The oldest release of each API that this package was written for. */
const OLDEST: Readonly<Record<number, number>> = { 2: 6, 3: 0 };
const OPENMP_ON_WINDOWS = 'vcomp140.dll';
/** `dnnl_cpu_runtime`: others bring a pool of threads that cannot be limited to one. */
const Runtime = { SEQUENTIAL: 1, OPENMP: 2 } as const;

const versionStruct = koffi.struct('dnnl_version_t', {
  major: 'int',
  minor: 'int',
  patch: 'int',
  hash: 'const char *',
  cpu_runtime: 'unsigned int',
  gpu_runtime: 'unsigned int',
});

export interface OneDnnVersion {
  major: number;
  minor: number;
  patch: number;
  cpu_runtime: number;
}

/**
 * Looks for oneDNN: at `path` (by default `CARTRIDGES_ONEDNN`), else under the names that systems give it. Several may be looked
 * at; each keeps its symbols to itself, since two releases that shared them would call each other and crash.
 */
export function findOneDnn(path: string | undefined = readEnvironment().oneDnnLibrary): OneDnnSearch {
  if (path !== undefined) return tryLoad(path, 'unusable');
  let search: OneDnnSearch = { state: 'missing' };
  for (const name of SYSTEM_NAMES[process.platform] ?? []) {
    const found = tryLoad(name, 'missing');
    if (found.state === 'found') return found;
    if (found.state === 'unusable') search = found;
  }
  return search;
}

/** Loads the library at a path that {@link findOneDnn} returned: what a worker thread does. */
export function loadOneDnn(path: string): OneDnnLibrary {
  const library = koffi.load(path);
  const version = readVersion(library);
  if (version.cpu_runtime === Runtime.OPENMP) useOneThread(library);
  return {
    path,
    version: `${version.major}.${version.minor}.${version.patch}`,
    bindings: bindOneDnn(library),
    descriptors: version.major === 2 ? descriptors2(library) : descriptors3(library),
  };
}

function tryLoad(path: string, stateWhenAbsent: 'missing' | 'unusable'): OneDnnSearch {
  try {
    const problem = problemOf(path, readVersion(koffi.load(path)));
    return problem === undefined ? { state: 'found', library: loadOneDnn(path) } : { state: 'unusable', problem };
  } catch (error) {
    const reason = (error as Error).message;
    // Of a library that the found one needs, and that is missing, the loader says the name.
    const lacksAnother = /library: \S+: cannot open/.test(reason);
    if (stateWhenAbsent === 'missing' && !lacksAnother) return { state: 'missing' };
    return { state: 'unusable', problem: `${path} cannot be loaded: ${reason}` };
  }
}

function readVersion(library: LibraryHandle): OneDnnVersion {
  return koffi.decode(library.func('void *dnnl_version()')(), versionStruct) as OneDnnVersion;
}

/** Why a library of this version is not taken; undefined when it is. */
export function problemOf(path: string, { major, minor, patch, cpu_runtime: runtime }: OneDnnVersion): string | undefined {
  const oldest = OLDEST[major];
  if (oldest === undefined || minor < oldest) {
    return `${path} is oneDNN ${major}.${minor}.${patch}; versions from 2.6 and 3 are known`;
  }
  if (runtime === Runtime.SEQUENTIAL || runtime === Runtime.OPENMP) return undefined;
  return `${path} is built with a pool of threads of its own; a build with OpenMP or without threads is needed`;
}

/** OpenMP's number of threads is a setting of the calling thread. Its library is found through the one that needs it. */
function useOneThread(library: LibraryHandle): void {
  const owner = process.platform === 'win32' ? koffi.load(OPENMP_ON_WINDOWS) : library;
  owner.func('void omp_set_num_threads(int count)')(1);
}
