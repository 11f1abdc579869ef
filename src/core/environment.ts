import { homedir } from 'node:os';
import { join } from 'node:path';

export type EnvironmentVariables = Readonly<Record<string, string | undefined>>;

/** What the environment says. Read when it is asked for, never at import; an empty variable counts as unset. */
export interface Environment {
  /** `CARTRIDGES_MODEL`, `CARTRIDGES_DEVICE`, `CARTRIDGES_THREADS`: settings as text, checked with all others. */
  model: string | undefined;
  device: string | undefined;
  threads: string | undefined;
  /** `CARTRIDGES_ENGINE_DIR`: a folder with the engine's libraries, in place of the platform package. */
  engineFolder: string | undefined;
  /** `CARTRIDGES_ONEDNN`: the library oneDNN, in place of the one that the system has. */
  oneDnnLibrary: string | undefined;
  /** `ONEDNN_MAX_CPU_ISA` or, in 2.x, `DNNL_MAX_CPU_ISA`: the most that oneDNN may use of the processor. */
  oneDnnInstructions: string | undefined;
  /** `HF_ENDPOINT`: address of the hub, without a slash at the end. */
  hubEndpoint: string;
  /** The folder of the Hugging Face cache: `HF_HUB_CACHE`, `HF_HOME/hub`, or the usual place. */
  hubCacheFolder: string;
  /** `WANDB_BASE_URL`: address of the Weights & Biases API, without a slash at the end. */
  wandbBaseUrl: string;
  /** `NO_COLOR` is set. */
  noColor: boolean;
  /** `CI` is set: nobody watches the terminal. */
  continuousIntegration: boolean;
}

/** Reads the environment; tests pass variables of their own. */
export function readEnvironment(variables: EnvironmentVariables = process.env): Environment {
  const read = (name: string) => variables[name] || undefined;
  return {
    model: read('CARTRIDGES_MODEL'),
    device: read('CARTRIDGES_DEVICE'),
    threads: read('CARTRIDGES_THREADS'),
    engineFolder: read('CARTRIDGES_ENGINE_DIR'),
    oneDnnLibrary: read('CARTRIDGES_ONEDNN'),
    oneDnnInstructions: read('ONEDNN_MAX_CPU_ISA') ?? read('DNNL_MAX_CPU_ISA'),
    hubEndpoint: (read('HF_ENDPOINT') ?? 'https://huggingface.co').replace(/\/+$/, ''),
    hubCacheFolder: read('HF_HUB_CACHE') ?? join(read('HF_HOME') ?? join(userCacheFolder(variables), 'huggingface'), 'hub'),
    wandbBaseUrl: (read('WANDB_BASE_URL') ?? 'https://api.wandb.ai').replace(/\/+$/, ''),
    noColor: read('NO_COLOR') !== undefined,
    continuousIntegration: read('CI') !== undefined,
  };
}

/** Where this package keeps what it can make again (device profiles, hashes of models): `CARTRIDGES_CACHE`, or a folder of its own. */
export function cacheFolder(variables: EnvironmentVariables = process.env): string {
  return variables['CARTRIDGES_CACHE'] || join(userCacheFolder(variables), 'cartridges');
}

/** `HF_TOKEN`. Apart from the rest, so that no dump of the environment holds it. */
export function hubToken(variables: EnvironmentVariables = process.env): string | undefined {
  return variables['HF_TOKEN'] || undefined;
}

/** `WANDB_API_KEY`, apart from the rest for the same reason. */
export function wandbApiKey(variables: EnvironmentVariables = process.env): string | undefined {
  return variables['WANDB_API_KEY'] || undefined;
}

/** `CARTRIDGES_API_KEY`: the key for a server that `chat` talks to. Apart from the rest for the same reason. */
export function serverApiKey(variables: EnvironmentVariables = process.env): string | undefined {
  return variables['CARTRIDGES_API_KEY'] || undefined;
}

function userCacheFolder(variables: EnvironmentVariables): string {
  return variables['XDG_CACHE_HOME'] || join(homedir(), '.cache');
}
