import { readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { readEnvironment } from '../../core/environment.js';
import { CartridgesError } from '../../core/errors.js';
import { packageRoot } from '../../core/package.js';
import { chooseModelFile, isModelFile } from './choose-model-file.js';
import { HubCache } from './hub-cache.js';
import { isRepositoryName } from './repository.js';

/** Name of the small model that comes with the package. */
const POCKET_MODEL = 'pocket';

export interface LocalModel {
  /** What `resolveModel` takes: `pocket`, or `org/name:file`. */
  name: string;
  path: string;
  sizeBytes: number;
}

/**
 * The path of a model's GGUF: `pocket` is the one in the package, then a file or a folder with one, then `org/name` or
 * `org/name:file` in the Hugging Face cache. Of several in a folder it is the one that would be taken of a repository. Nothing is
 * downloaded. Throws `FILE_NOT_FOUND` that says how to get it, and `INVALID_INPUT` for a folder without any.
 */
export async function resolveModel(model: string, cacheFolder = readEnvironment().hubCacheFolder): Promise<string> {
  if (model === POCKET_MODEL) return pocketPath();
  const found = await stat(model).catch(() => undefined);
  if (found?.isFile()) return resolve(model);
  if (found?.isDirectory()) return resolve(model, chooseModelFile(await readdir(model), undefined, model));
  if (found) {
    throw new CartridgesError('INVALID_INPUT', `the model ${model} is not a file`, { hint: 'name a .gguf file' });
  }
  const [repo, file] = splitHubName(model);
  if (!isRepositoryName(repo) || repo.endsWith('.gguf')) {
    throw new CartridgesError('FILE_NOT_FOUND', `the model ${model} does not exist`, {
      hint: 'name a GGUF file, a repository that was fetched with cartridges models pull ORG/NAME, or pocket',
    });
  }
  return cachedModel(repo, file, new HubCache(cacheFolder));
}

/** The models that can be named without a download: the pocket model, then the GGUF files in the Hugging Face cache. */
export async function listModels(cacheFolder = readEnvironment().hubCacheFolder): Promise<LocalModel[]> {
  const cache = new HubCache(cacheFolder);
  const found: [name: string, path: string][] = [[POCKET_MODEL, pocketPath()]];
  for (const repo of await cache.repositories()) {
    for (const [file, path] of await cache.files(repo)) if (isModelFile(file)) found.push([`${repo}:${file}`, path]);
  }
  return Promise.all(found.map(async ([name, path]) => ({ name, path, sizeBytes: (await stat(path)).size })));
}

function pocketPath(): string {
  return join(packageRoot, 'models', 'pocket', 'pocket.gguf');
}

function splitHubName(model: string): [repo: string, file: string | undefined] {
  const colon = model.indexOf(':');
  return colon < 0 ? [model, undefined] : [model.slice(0, colon), model.slice(colon + 1)];
}

async function cachedModel(repo: string, file: string | undefined, cache: HubCache): Promise<string> {
  const files = await cache.files(repo);
  const models = [...files.keys()].filter(isModelFile);
  const matches = models.filter((path) => file === undefined || path.toLowerCase().includes(file.toLowerCase()));
  if (matches.length === 0) {
    const wanted = file === undefined ? repo : `${repo} ${file}`;
    throw new CartridgesError('FILE_NOT_FOUND', `the model ${wanted} is not on this machine`, {
      hint: `cartridges models pull ${wanted}${models.length > 0 ? `; here are: ${models.join(', ')}` : ''}`,
    });
  }
  return files.get(chooseModelFile(models, file, repo)) as string;
}
