// `npm run build`: compiles the package with its types, for programs that import it.

import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { replaceBuild } from '../bin/build-when-stale.js';
import { ensureInstalled, packageRoot } from './ensure-installed.mjs';

ensureInstalled();
replaceBuild(packageRoot, (root, folder) => {
  const compiler = createRequire(join(root, 'package.json')).resolve('typescript/bin/tsc');
  const settings = join(root, 'tsconfig.build.json');
  const { status } = spawnSync(process.execPath, [compiler, '-p', settings, '--outDir', folder], { stdio: 'inherit' });
  if (status === 0) return;
  rmSync(folder, { recursive: true, force: true });
  process.exit(status ?? 70);
});
