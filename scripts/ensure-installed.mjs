import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkNode } from '../bin/check-node.js';

export const packageRoot = fileURLToPath(new URL('..', import.meta.url));

/** Installs the dependencies when they are missing or older than the lock file. Ends the process when that fails. */
export function ensureInstalled(root = packageRoot) {
  checkNode();
  if (isInstalled(root)) return;
  process.stderr.write('installing the dependencies (npm ci --ignore-scripts) …\n');
  const [command, ...prefix] = npmCommand();
  // npm's words go to stderr: stdout belongs to the command that runs next.
  const { status, error } = spawnSync(command, [...prefix, 'ci', '--ignore-scripts'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32' && prefix.length === 0,
  });
  if (status === 0) return;
  process.stderr.write(`error: npm ci failed${error ? `: ${error.message}` : ''}\n`);
  process.stderr.write('  hint: its messages above say why; it needs a package registry that can be reached\n');
  process.exit(status ?? 70);
}

/** npm notes what it installed in node_modules/.package-lock.json, which is therefore newer than the lock file it followed. */
export function isInstalled(root) {
  const installed = statSync(join(root, 'node_modules', '.package-lock.json'), { throwIfNoEntry: false });
  return installed !== undefined && installed.mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs;
}

/** The npm that runs this script, or else the one on the path. */
function npmCommand() {
  const running = process.env.npm_execpath;
  return running?.endsWith('.js') ? [process.execPath, running] : ['npm'];
}
