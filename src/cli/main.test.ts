import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { HubStandIn } from '../../test/support/hub-stand-in.js';
import { CartridgesError } from '../core/errors.js';
import { packageVersion } from '../core/package.js';
import { describeSettings } from '../pipeline/resolve-settings.js';
import { reportError } from './errors.js';
import { runCommandLine } from './main.js';
import { SettingOption } from './options.js';
import { createProgram } from './program.js';

async function run(...commandLine: string[]) {
  const text = { stdout: '', stderr: '' };
  const status = await runCommandLine(commandLine, {
    stdout: { write: (piece) => (text.stdout += piece) },
    stderr: { write: (piece) => (text.stderr += piece) },
  });
  return { status, ...text };
}

describe('the frame of the command line', () => {
  it('prints help and version to stdout', async () => {
    expect(await run('--version')).toEqual({ status: 0, stdout: `${packageVersion()}\n`, stderr: '' });
    const help = await run('models', 'pull', '--help');
    expect(help).toMatchObject({ status: 0, stderr: '' });
    expect(help.stdout.indexOf('--revision')).toBeLessThan(help.stdout.indexOf('--json'));
  });

  it('shows the help as a mistake when no command is named', async () => {
    expect(await run()).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining('Usage: cartridges') });
  });

  it.each([
    [['model'], "error: unknown command 'model'\n  hint: did you mean models?\n"],
    [['models', 'pull', 'a/b', '--revison', 'x'], "error: unknown option '--revison'\n  hint: did you mean --revision?\n"],
    [['models', 'list', '--jsn'], "error: unknown option '--jsn'\n  hint: did you mean --json?\n"],
  ])('refuses %j with a suggestion', async (commandLine, stderr) => {
    expect(await run(...commandLine)).toEqual({ status: 2, stdout: '', stderr });
  });

  it('reports a missing argument and one too many', async () => {
    expect(await run('models', 'pull')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("missing required argument 'repository'"),
    });
    expect(await run('models', 'list', 'x')).toMatchObject({ status: 2, stderr: expect.stringContaining('too many arguments') });
  });

  it('ties every setting flag to a setting that exists', () => {
    const known = new Set(describeSettings().map(({ path }) => path));
    const commandsBelow = (command: CommandUnknownOpts): CommandUnknownOpts[] => [
      command,
      ...command.commands.flatMap(commandsBelow),
    ];
    const silent = { write: () => {} };
    const options = commandsBelow(createProgram({ stdout: silent, stderr: silent })).flatMap(({ options }) => options);
    const unknown = options.filter((option) => option instanceof SettingOption && !known.has(option.settingPath));
    expect(unknown).toEqual([]);
  });
});

describe('reportError', () => {
  const report = (thrown: unknown, verbose = false) => {
    let text = '';
    const status = reportError(thrown, { write: (piece) => (text += piece) }, verbose);
    return { status, text };
  };

  it('writes one line, a hint, and the exit status of the code', () => {
    const error = new CartridgesError('CARTRIDGE_MISMATCH', 'two\nlines', { hint: 'do this' });
    expect(report(error)).toEqual({ status: 5, text: 'error: two lines\n  hint: do this\n' });
    expect(report(new DOMException('aborted', 'AbortError')).status).toBe(130);
  });

  it('shows the stack of a defect on request only', () => {
    expect(report(new TypeError('x is not a function'))).toMatchObject({
      status: 70,
      text: expect.stringContaining('--verbose'),
    });
    expect(report(new TypeError('x is not a function'), true).text).toContain('main.test.ts');
  });
});

describe('cartridges models', () => {
  let hub: HubStandIn;
  let cacheFolder: string;

  beforeEach(async () => {
    hub = await HubStandIn.start({ 'tiny-Q8_0.gguf': Buffer.from('GGUF'), 'tiny-F16.gguf': Buffer.from('GGUF 16') });
    cacheFolder = await mkdtemp(join(tmpdir(), 'cartridges-cli-'));
    vi.stubEnv('HF_ENDPOINT', hub.endpoint);
    vi.stubEnv('HF_HUB_CACHE', cacheFolder);
    vi.stubEnv('HF_TOKEN', 'hf_secret');
  });

  afterEach(async () => {
    vi.unstubAllEnvs();
    await hub.stop();
    await rm(cacheFolder, { recursive: true, force: true });
  });

  it('pull prints one JSON object to stdout and the rest to stderr', async () => {
    const { status, stdout, stderr } = await run('models', 'pull', 'org/model', '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ repo: 'org/model', file: 'tiny-Q8_0.gguf', cached: false });
    expect(stderr).toContain('tiny-F16.gguf');
    expect(stderr + stdout).not.toContain('hf_secret');
    expect(hub.requests[0]?.authorization).toBe('Bearer hf_secret');
  });

  it('list shows what was pulled', async () => {
    await run('models', 'pull', 'org/model', 'F16', '--quiet');
    const { stdout } = await run('models', 'list');
    expect(stdout).toMatch(/^pocket +4\.4 MiB /);
    expect(stdout).toContain('org/model:tiny-F16.gguf');
    expect(JSON.parse((await run('models', 'list', '--json')).stdout).models).toHaveLength(2);
  });

  it('pull explains a repository that does not exist', async () => {
    const { status, stdout, stderr } = await run('models', 'pull', 'org/other', '--json');
    expect({ status, stdout }).toEqual({ status: 8, stdout: '' });
    expect(stderr).toMatch(/^error: org\/other at main does not exist on 127\.0\.0\.1:\d+\n {2}hint: .*\n$/);
  });
});
