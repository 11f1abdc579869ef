import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { writeCartridge } from '../src/cartridge/cartridge-file.js';
import { packageVersion } from '../src/core/package.js';
import { goldenCartridge } from './support/cartridges.js';
import { runCommand } from './support/command-line.js';
import { readGolden } from './support/golden.js';

const node = process.env['CARTRIDGES_TEST_NODE'];
const folder = mkdtempSync(join(tmpdir(), 'cartridges-node-'));
afterAll(() => rmSync(folder, { recursive: true }));

const reason = node ? node : 'skipped: CARTRIDGES_TEST_NODE names no other Node';
describe.skipIf(!node)(`the command line on another Node (${reason})`, () => {
  const run = (...args: string[]) => runCommand(args, { folder, node: node! });

  test('prints its version', async () => {
    const { status, stdout } = await run('--version');
    expect({ status, stdout }).toEqual({ status: 0, stdout: `${packageVersion()}\n` });
  });

  test('finds the engine', async () => {
    const { status, stdout } = await run('doctor', '--json', '--threads', '1');
    expect(status).toBe(0);
    const report = JSON.parse(stdout);
    expect(report.node).not.toBe(process.version);
    expect(report.engine.llama).toMatch(/^0\.5\.0/);
  });

  test('reads a cartridge', async () => {
    const golden = readGolden('tiny-llama');
    const path = join(folder, 'tiny.safetensors');
    await writeCartridge(path, goldenCartridge(golden, 'cartridge', golden.cartridge.rows), { dtype: 'f16' });
    const { status, stdout } = await run('inspect', path, '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ tokenCount: golden.cartridge.rows, storedAs: 'f16' });
  });

  test('answers', async () => {
    const { status, stdout } = await run(
      'chat',
      'What is the capital of France?',
      '--model',
      'pocket',
      '--threads',
      '1',
      '--json',
    );
    expect(status).toBe(0);
    expect(JSON.parse(stdout).answer).not.toBe('');
  });
});
