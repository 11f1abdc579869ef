import { readEnvironment } from '../core/environment.js';
import { CartridgesError } from '../core/errors.js';
import { ENGINE_PACKAGE_VERSION, type EngineFiles, findEngineFiles } from './engine-files.js';
import { EngineLog, reportAborts } from './engine-log.js';
import { bindGgml, type Ggml } from './ggml.js';
import { koffi } from './koffi.js';
import { bindLlama, type Llama } from './llama.js';
import { STRUCT_SIZES } from './structs.js';

/** What the struct layouts and the state blob of this package hold for. */
export const ENGINE_VERSION = { llama: '0.5.0', ggml: '0.25.1' } as const;

/** The loaded libraries. There is one of it in a process: two builds of libllama must not meet. */
export interface Engine {
  readonly files: EngineFiles;
  readonly ggml: Ggml;
  readonly llama: Llama;
  readonly log: EngineLog;
  readonly versions: { llama: string; ggml: string };
}

let loaded: Engine | undefined;

/**
 * Loads ggml and libllama once, from `CARTRIDGES_ENGINE_DIR` or the platform package, and checks versions and struct layouts.
 * Throws `ENGINE_MISSING` when no library is found and `ENGINE_VERSION` when it is another build.
 *
 * @example
 * const { llama, ggml } = loadEngine();
 */
export function loadEngine(): Engine {
  loaded ??= open(findEngineFiles(readEnvironment().engineFolder));
  return loaded;
}

function open(files: EngineFiles): Engine {
  const [base, ggmlLibrary, llamaLibrary] = [files.base, files.ggml, files.llama].map((path) => {
    try {
      return koffi.load(path, { global: true });
    } catch (error) {
      throw new CartridgesError('ENGINE_MISSING', `cannot load ${path}: ${(error as Error).message}`, { cause: error });
    }
  }) as [ReturnType<typeof koffi.load>, ReturnType<typeof koffi.load>, ReturnType<typeof koffi.load>];
  const ggml = bindGgml(base, ggmlLibrary);
  const llama = bindLlama(llamaLibrary);
  const versions = { llama: llama.llama_version(), ggml: ggml.ggml_version() };
  checkVersions(versions, files.folder);
  checkStructSizes();
  reportAborts(base);
  const log = new EngineLog(llama);
  ggml.ggml_backend_load_all_from_path(files.folder);
  return { files, ggml, llama, log, versions };
}

function checkVersions(found: { llama: string; ggml: string }, folder: string): void {
  for (const name of ['llama', 'ggml'] as const) {
    if (found[name].split('-')[0] === ENGINE_VERSION[name]) continue;
    throw new CartridgesError(
      'ENGINE_VERSION',
      `${folder} holds ${name} ${found[name]}, this package needs ${ENGINE_VERSION[name]}`,
      { hint: `install version ${ENGINE_PACKAGE_VERSION} of the platform package, or build llama.cpp v${ENGINE_VERSION.llama}` },
    );
  }
}

function checkStructSizes(): void {
  for (const [name, bytes] of Object.entries(STRUCT_SIZES)) {
    if (koffi.sizeof(name) === bytes) continue;
    throw new CartridgesError(
      'ENGINE_VERSION',
      `the struct ${name} has ${koffi.sizeof(name)} bytes here, ${bytes} were expected`,
    );
  }
}
