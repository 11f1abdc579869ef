import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder } from '../../src/core/environment.js';
import { progress } from './report.js';

/**
 * The Python of a virtual environment with the given packages, made on the first call in the cache folder and kept there:
 * rivals are no dependency of this package. Throws an Error with the last words of the command that failed.
 */
export async function pythonWith(name: string, packages: readonly string[]): Promise<string> {
  const folder = join(cacheFolder(), 'bench', name);
  const python = process.platform === 'win32' ? join(folder, 'Scripts', 'python.exe') : join(folder, 'bin', 'python');
  // Written last, so that an interrupted installation is made again.
  const marker = join(folder, `installed ${packages.join(' ')}`);
  if (existsSync(marker)) return python;
  progress(`installing ${packages.join(' ')} into ${folder}`);
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await execute(process.platform === 'win32' ? 'python' : 'python3', '-m', 'venv', folder);
  await execute(python, '-m', 'pip', 'install', '--quiet', ...packages);
  await writeFile(marker, '');
  return python;
}

async function execute(command: string, ...args: string[]): Promise<void> {
  try {
    await promisify(execFile)(command, args);
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    throw new Error((stderr || message).trim().split('\n').at(-1));
  }
}
