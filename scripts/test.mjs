// `npm test`: works straight after a clone. Installs when needed, then runs vitest with the given filters and flags. The last
// line printed is `N passed, N failed`.

import { ensureInstalled, packageRoot } from './ensure-installed.mjs';

ensureInstalled();
process.chdir(packageRoot);
const { parseCLI, startVitest } = await import('vitest/node');

const { filter, options } = parseCLI(['vitest', 'run', ...process.argv.slice(2)]);
const counts = { passed: 0, failed: 0, skipped: 0 };
const vitest = await startVitest('test', filter, { ...options, reporters: ['default', { onTestRunEnd: count }] });
await vitest.close();

// Programs read the last line, so what was skipped has a line of its own.
if (counts.skipped > 0) process.stdout.write(`${counts.skipped} skipped\n`);
process.stdout.write(`${counts.passed} passed, ${counts.failed} failed\n`, () => {
  process.exit(counts.failed > 0 || counts.passed === 0 ? 1 : 0);
});

/** A file that cannot be loaded, and an error outside any test, count as one failure each. */
function count(modules, unhandledErrors) {
  counts.failed += unhandledErrors.length;
  for (const module of modules) {
    counts.failed += module.errors().length;
    for (const test of module.children.allTests()) counts[test.result().state] += 1;
  }
}
