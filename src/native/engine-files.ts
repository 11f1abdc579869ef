import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { CartridgesError } from '../core/errors.js';

/** The version of node-llama-cpp's platform packages that holds the engine this package was written for. */
export const ENGINE_PACKAGE_VERSION = '3.22.1';

/** Paths of the three shared libraries and of the folder with the CPU variants. */
export interface EngineFiles {
  folder: string;
  base: string;
  ggml: string;
  llama: string;
}

/** The CPU package of this platform, for example `@node-llama-cpp/linux-x64`. */
export function enginePackageName(platform: string = process.platform, architecture: string = process.arch): string {
  const system = { linux: 'linux', darwin: 'mac', win32: 'win' }[platform] ?? platform;
  const suffix = platform === 'darwin' && architecture === 'arm64' ? '-metal' : '';
  return `@node-llama-cpp/${system}-${architecture === 'arm' ? 'armv7l' : architecture}${suffix}`;
}

/**
 * Finds the engine: `engineFolder` when it is given (a CMake build of llama.cpp or an unpacked package), else the platform
 * package. Throws `ENGINE_MISSING` with the command that installs it.
 */
export function findEngineFiles(engineFolder?: string): EngineFiles {
  const folder = engineFolder ?? packagedEngineFolder(enginePackageName());
  if (!existsSync(folder)) {
    throw new CartridgesError('ENGINE_MISSING', `the engine folder ${folder} does not exist`, {
      hint: 'set CARTRIDGES_ENGINE_DIR to a folder with libggml-base, libggml and libllama, or unset it',
    });
  }
  return engineFilesIn(folder);
}

/** The folder with the libraries of an installed platform package. */
function packagedEngineFolder(packageName: string): string {
  const bins = packageBinaries(packageName);
  if (!bins) {
    throw new CartridgesError('ENGINE_MISSING', `the engine for this platform (${packageName}) is not installed`, {
      hint: `npm install --no-save ${packageName}@${ENGINE_PACKAGE_VERSION}`,
    });
  }
  return bins;
}

/** Like {@link packagedEngineFolder}, undefined where the package is not installed. */
export function packageBinaries(packageName: string): string | undefined {
  try {
    // The packages export only their entry file: the libraries lie beside its folder.
    const entry = createRequire(import.meta.url).resolve(packageName);
    const bins = join(dirname(entry), '..', 'bins');
    const [platformFolder] = readdirSync(bins);
    return platformFolder === undefined ? undefined : join(bins, platformFolder);
  } catch {
    return undefined;
  }
}

function engineFilesIn(folder: string): EngineFiles {
  const names = readdirSync(folder);
  const find = (library: string): string => {
    // `libggml.v0.5.0.so` in a package, `libggml.so` or `libggml.dylib` in a build, `ggml.dll` on Windows.
    const pattern = new RegExp(`^(lib)?${library}(\\.[a-z]+)?(\\.v[0-9.]+)?\\.(so|dylib|dll)$`);
    const name = names.find((candidate) => pattern.test(candidate));
    if (name) return join(folder, name);
    throw new CartridgesError('ENGINE_MISSING', `there is no ${library} library in ${folder}`, {
      hint: `expected files like those in ${enginePackageName()}@${ENGINE_PACKAGE_VERSION}`,
    });
  };
  return { folder, base: find('ggml-base'), ggml: find('ggml'), llama: find('llama') };
}
