import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const packageRoot = fileURLToPath(new URL('../..', import.meta.url));
let clone: string;

/** A clone with a single source file, so that a build takes seconds. */
beforeEach(() => {
  clone = mkdtempSync(join(tmpdir(), 'cartridges-clone-'));
  for (const name of [
    'bin',
    'scripts',
    'package.json',
    'package-lock.json',
    'tsconfig.json',
    'tsconfig.build.json',
    'vitest.config.ts',
  ]) {
    cpSync(join(packageRoot, name), join(clone, name), { recursive: true });
  }
  symlinkSync(join(packageRoot, 'node_modules'), join(clone, 'node_modules'));
  const old = new Date('2020-01-01');
  utimesSync(join(clone, 'package-lock.json'), old, old);
  mkdirSync(join(clone, 'src', 'cli'), { recursive: true });
  writeMain('first');
});

afterEach(() => rmSync(clone, { recursive: true, force: true }));

function writeMain(word: string, type = 'string') {
  writeFileSync(
    join(clone, 'src', 'cli', 'main.ts'),
    `export async function main(words: string[]): Promise<void> {
  const word: ${type} = '${word}';
  console.log([word, ...words].join(' '));
  process.exitCode = words.includes('fail') ? 7 : 0;
}\n`,
  );
}

function node(file: string, ...words: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(clone, file), ...words], { encoding: 'utf8', cwd: clone });
  return { status, stdout, stderr };
}

describe('bin/cartridges.js', () => {
  it('builds when dist is missing and when a source is newer, and not otherwise', () => {
    expect(node('bin/cartridges.js', 'a')).toEqual({ status: 0, stdout: 'first a\n', stderr: 'building dist/ …\n' });
    expect(node('bin/cartridges.js', 'fail')).toEqual({ status: 7, stdout: 'first fail\n', stderr: '' });
    writeMain('second');
    expect(node('bin/cartridges.js')).toMatchObject({ status: 0, stdout: 'second\n' });
    expect(readdirSync(join(clone, '.cache'))).toEqual([]);
  });

  it('ends with status 70 when the sources do not compile, and keeps the former build', () => {
    node('bin/cartridges.js');
    writeMain('broken', 'string = =');
    const { status, stdout, stderr } = node('bin/cartridges.js');
    expect({ status, stdout }).toEqual({ status: 70, stdout: '' });
    expect(stderr).toContain('main.ts:2');
    expect(stderr).toContain('error: the sources do not compile');
    expect(existsSync(join(clone, 'dist', 'cli', 'main.js'))).toBe(true);
  });

  it('runs what is there in a published package, and says what to do without dependencies', () => {
    node('bin/cartridges.js');
    rmSync(join(clone, 'node_modules'));
    writeMain('newer');
    expect(node('bin/cartridges.js')).toMatchObject({ status: 70, stderr: expect.stringContaining('npm ci --ignore-scripts') });
    rmSync(join(clone, 'src'), { recursive: true });
    expect(node('bin/cartridges.js')).toEqual({ status: 0, stdout: 'first\n', stderr: '' });
  });
});

/** Some tests read the packaged numbers whatever `GOLDEN_DIR` says. */
function readsGoldenFolder(file: string): boolean {
  const text = readFileSync(join(packageRoot, file), 'utf8');
  const imported = /import \{([^}]*)\} from '[./]*support\/golden\.js'/.exec(text)?.[1] ?? '';
  return /\b(GOLDEN_FOLDER|goldenNames|readGolden)\b/.test(imported) && !imported.includes('PACKAGED_GOLDEN_FOLDER');
}

describe('scripts', () => {
  it('build writes types, which stay until a source changes', () => {
    expect(node('scripts/build.mjs')).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(node('bin/cartridges.js', 'a')).toEqual({ status: 0, stdout: 'first a\n', stderr: '' });
    expect(existsSync(join(clone, 'dist', 'cli', 'main.d.ts'))).toBe(true);
    writeMain('broken', 'number');
    expect(node('scripts/build.mjs')).toMatchObject({ status: 2, stdout: expect.stringContaining('main.ts(2') });
    expect(existsSync(join(clone, 'dist', 'cli', 'main.d.ts'))).toBe(true);
  });

  it('quickstart is the command of that name, with its arguments and status', () => {
    expect(node('scripts/quickstart.mjs', '--json', 'fail')).toMatchObject({
      status: 7,
      stdout: 'first quickstart --json fail\n',
    });
  });

  it('test ends with the counts, and fails when a test fails or none ran', () => {
    writeFileSync(
      join(clone, 'src', 'sample.test.ts'),
      `import { expect, it } from 'vitest';\nit('a', () => {});\nit('b', () => expect(1).toBe(2));\nit.skip('c', () => {});\n`,
    );
    writeFileSync(join(clone, 'src', 'unloadable.test.ts'), "import './nothing.js';\n");
    writeFileSync(join(clone, 'src', 'good.test.ts'), "import { it } from 'vitest';\nit('a', () => {});\n");
    const lastLines = (stdout: string) => stdout.trimEnd().split('\n').slice(-2);
    const lastLine = (stdout: string) => lastLines(stdout)[1];
    const all = node('scripts/test.mjs');
    expect([all.status, ...lastLines(all.stdout)]).toEqual([1, '1 skipped', '2 passed, 2 failed']);
    const good = node('scripts/test.mjs', 'src/good');
    expect([good.status, lastLine(good.stdout)]).toEqual([0, '1 passed, 0 failed']);
    const none = node('scripts/test.mjs', 'src/absent');
    expect([none.status, lastLine(none.stdout)]).toEqual([1, '0 passed, 0 failed']);
  });

  it('test:golden runs every test file that reads the golden folder', () => {
    const { scripts } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8'));
    const filters: string[] = scripts['test:golden'].split(' ').slice(2);
    const readers = ['src', 'test']
      .flatMap((folder) =>
        readdirSync(join(packageRoot, folder), { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file)),
      )
      .filter((file) => file.endsWith('.test.ts') && readsGoldenFolder(file));
    expect(readers).toContain(join('test', 'golden-training.test.ts'));
    expect(readers.filter((file) => !filters.some((filter) => file.includes(filter)))).toEqual([]);
  });

  it('bench runs a TypeScript file with its arguments, and lists the names for an unknown one', () => {
    mkdirSync(join(clone, 'bench'));
    writeFileSync(
      join(clone, 'bench', 'decode.ts'),
      'const words: string[] = process.argv.slice(2);\nconsole.log(JSON.stringify(words));\n',
    );
    expect(node('scripts/bench.mjs', 'decode', '--json')).toEqual({ status: 0, stdout: '["--json"]\n', stderr: '' });
    expect(node('scripts/bench.mjs', 'decoed')).toMatchObject({
      status: 2,
      stdout: '',
      stderr: expect.stringContaining('one of: decode'),
    });
    expect(node('scripts/bench.mjs', '../bench/decode').status).toBe(2);
  });

  it('install only what is missing or older than the lock file', async () => {
    const { isInstalled } = await import(join(clone, 'scripts', 'ensure-installed.mjs'));
    expect(isInstalled(clone)).toBe(true);
    const future = new Date(Date.now() + 60_000);
    utimesSync(join(clone, 'package-lock.json'), future, future);
    expect(isInstalled(clone)).toBe(false);
    rmSync(join(clone, 'node_modules'));
    expect(isInstalled(clone)).toBe(false);
  });

  it('know which versions of Node are too old', async () => {
    const { isSupportedNode } = await import(join(clone, 'bin', 'check-node.js'));
    expect(['18.20.0', '20.18.3', '20.19.0', '24.1.0'].map(isSupportedNode)).toEqual([false, false, true, true]);
  });
});
