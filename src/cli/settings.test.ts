import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { EnvironmentVariables } from '../core/environment.js';
import { SettingOption, withSettingsOptions } from './options.js';
import { commandSettings, requireModel, type SettingsSources } from './settings.js';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cartridges-settings-'));
});

afterEach(() => rm(folder, { recursive: true, force: true }));

async function settingsFor(flags: readonly string[], variables: EnvironmentVariables = {}, sources: SettingsSources = {}) {
  const command = withSettingsOptions(
    new Command('build').addOption(new SettingOption('--tokens <p>', 'training.tokens', 'size of the cartridge')),
  );
  command.parse(flags, { from: 'user' });
  return commandSettings(command, { folder, variables, ...sources });
}

describe('commandSettings', () => {
  it('puts flags over --set over the config file over the environment over defaults', async () => {
    const variables = { CARTRIDGES_MODEL: 'environment', CARTRIDGES_DEVICE: 'environment', CARTRIDGES_THREADS: '3' };
    await writeFile(
      join(folder, 'cartridges.config.json'),
      JSON.stringify({ model: 'file', device: 'file', training: { steps: 5 } }),
    );
    const settings = await settingsFor(
      ['--model', 'flag', '--set', 'model=set', '--set', 'training.tokens=7', '--tokens', '8'],
      variables,
    );
    expect(settings).toMatchObject({ model: 'flag', device: 'file', threads: 3, seed: 0, training: { steps: 5, tokens: 8 } });
  });

  it('takes a named config file alone where none shall be found', async () => {
    await writeFile(join(folder, 'cartridges.config.json'), JSON.stringify({ minutes: 60 }));
    await writeFile(join(folder, 'named.json'), JSON.stringify({ minutes: 5 }));
    expect((await settingsFor([], {}, { findConfig: false })).minutes).toBeUndefined();
    expect((await settingsFor(['--config', 'named.json'], {}, { findConfig: false })).minutes).toBe(5);
  });

  it('loads a TypeScript config, and a named one instead', async () => {
    await writeFile(
      join(folder, 'cartridges.config.ts'),
      "enum Kind { Cosine = 'cosine' }\nexport default { training: { tokens: 64 as number, decay: Kind.Cosine } };\n",
    );
    await writeFile(join(folder, 'other.mjs'), 'export default () => ({ seed: 4 });\n');
    expect((await settingsFor([])).training.tokens).toBe(64);
    const named = await settingsFor(['--config', 'other.mjs']);
    expect([named.seed, named.training.tokens]).toEqual([4, undefined]);
  });

  it('refuses an unknown key in a config file with its name and a suggestion', async () => {
    await writeFile(join(folder, 'cartridges.config.json'), '{ "training": { "tokns": 64 } }');
    await expect(settingsFor([])).rejects.toMatchObject({
      code: 'UNKNOWN_OPTION',
      message: 'cartridges.config.json: there is no setting training.tokns',
      hint: 'did you mean training.tokens?',
    });
  });

  it('explains a config file that is missing, broken, null or one of two', async () => {
    await expect(settingsFor(['--config', 'none.ts'])).rejects.toMatchObject({ code: 'FILE_NOT_FOUND' });
    await writeFile(join(folder, 'broken.ts'), 'export default {');
    await expect(settingsFor(['--config', 'broken.ts'])).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('cannot be loaded'),
    });
    await writeFile(join(folder, 'null.json'), '{ "seed": null }');
    await expect(settingsFor(['--config', 'null.json'])).rejects.toMatchObject({
      message: expect.stringContaining('seed cannot be null'),
    });
    await writeFile(join(folder, 'cartridges.config.json'), '{}');
    await writeFile(join(folder, 'cartridges.config.ts'), 'export default {}');
    await expect(settingsFor([])).rejects.toMatchObject({ message: expect.stringContaining('several config files') });
  });

  it('names the flag or variable of a wrong value', async () => {
    await expect(settingsFor(['--tokens', 'x'])).rejects.toMatchObject({
      message: expect.stringContaining('--tokens: training.tokens'),
    });
    await expect(settingsFor([], { CARTRIDGES_THREADS: 'x' })).rejects.toMatchObject({
      message: expect.stringContaining('CARTRIDGES_THREADS: threads'),
    });
    await expect(settingsFor(['--set', 'seed'])).rejects.toMatchObject({ code: 'INVALID_OPTION' });
  });

  it('says how to name a model when none is named', async () => {
    const settings = await settingsFor([]);
    expect(() => requireModel(settings)).toThrow(expect.objectContaining({ hint: expect.stringContaining('--model') }));
    expect(requireModel(await settingsFor(['--model', 'pocket']))).toBe('pocket');
  });
});
