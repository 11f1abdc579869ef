import { homedir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cacheFolder, hubToken, readEnvironment, serverApiKey, wandbApiKey } from './environment.js';

describe('readEnvironment', () => {
  it('falls back to the usual places', () => {
    const environment = readEnvironment({});
    expect(environment.hubEndpoint).toBe('https://huggingface.co');
    expect(environment.hubCacheFolder).toBe(join(homedir(), '.cache', 'huggingface', 'hub'));
    expect(environment.model).toBeUndefined();
    expect(cacheFolder({})).toBe(join(homedir(), '.cache', 'cartridges'));
  });

  it('takes the most specific variable for the hub cache', () => {
    const xdg = { XDG_CACHE_HOME: '/x' };
    expect(readEnvironment(xdg).hubCacheFolder).toBe(join('/x', 'huggingface', 'hub'));
    expect(readEnvironment({ ...xdg, HF_HOME: '/home' }).hubCacheFolder).toBe(join('/home', 'hub'));
    expect(readEnvironment({ ...xdg, HF_HOME: '/home', HF_HUB_CACHE: '/hub' }).hubCacheFolder).toBe('/hub');
  });

  it('treats an empty variable as unset and drops the last slash of the endpoint', () => {
    expect(readEnvironment({ CARTRIDGES_MODEL: '' }).model).toBeUndefined();
    expect(readEnvironment({ HF_ENDPOINT: 'http://hub.local/' }).hubEndpoint).toBe('http://hub.local');
    expect(readEnvironment({ WANDB_BASE_URL: 'http://wandb.local/' }).wandbBaseUrl).toBe('http://wandb.local');
  });

  it('keeps tokens out of the environment object', () => {
    const variables = { HF_TOKEN: 'hf_secret', WANDB_API_KEY: 'wandb_secret', CARTRIDGES_API_KEY: 'server_secret' };
    expect(hubToken(variables)).toBe('hf_secret');
    expect(wandbApiKey(variables)).toBe('wandb_secret');
    expect(serverApiKey(variables)).toBe('server_secret');
    expect(JSON.stringify(readEnvironment(variables))).not.toContain('secret');
  });
});
