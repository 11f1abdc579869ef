import { hubToken, readEnvironment, wandbApiKey } from '../../../core/environment.js';
import { CartridgesError } from '../../../core/errors.js';
import type { CartridgeSourceName } from '../cartridge-library.js';
import { HUB_HOSTS, hubSource } from './hub-source.js';
import type { RemoteSource } from './remote-source.js';
import { WANDB_HOSTS, wandbSource } from './wandb-source.js';

/** Where cartridges may come from; a source that is missing is not allowed. */
export interface CartridgeSources {
  /** Folders that were put into the library's folder by hand while the server runs. */
  local?: true;
  huggingface?: RemoteSource;
  wandb?: RemoteSource;
}

export interface SourceSettings {
  wandbEntity: string;
  wandbProject: string;
  /** Domains beside those of the services that downloads may be redirected to: the storage of a mirror or of an own server. */
  downloadHosts?: readonly string[];
}

/**
 * The sources of a list, with addresses and keys from the environment. Throws `INVALID_OPTION` for an address that is none, and
 * for `wandb` without an entity and a project.
 */
export function createSources(names: readonly CartridgeSourceName[], settings: SourceSettings): CartridgeSources {
  return {
    ...(names.includes('local') && { local: true }),
    ...(names.includes('huggingface') && { huggingface: createHubSource(settings) }),
    ...(names.includes('wandb') && { wandb: createWandbSource(settings) }),
  };
}

function createHubSource({ downloadHosts = [] }: SourceSettings): RemoteSource {
  const token = hubToken();
  const hosts = [...HUB_HOSTS, ...downloadHosts];
  return hubSource({ endpoint: readEnvironment().hubEndpoint, hosts, ...(token !== undefined && { token }) });
}

function createWandbSource({ wandbEntity: entity, wandbProject: project, downloadHosts = [] }: SourceSettings): RemoteSource {
  if (entity === '' || project === '') {
    throw new CartridgesError('INVALID_OPTION', 'artifacts of Weights & Biases need an entity and a project', {
      hint: 'set serving.wandbEntity and serving.wandbProject',
    });
  }
  const apiKey = wandbApiKey();
  const hosts = [...WANDB_HOSTS, ...downloadHosts];
  return wandbSource({
    baseUrl: readEnvironment().wandbBaseUrl,
    entity,
    project,
    hosts,
    ...(apiKey !== undefined && { apiKey }),
  });
}
