import { readEnvironment } from '../../core/environment.js';
import type { ProgressListener, RunOptions } from '../../core/progress.js';
import { chooseModelFile, isModelFile } from './choose-model-file.js';
import { downloadBlob, hasBlob } from './download-blob.js';
import { HubCache } from './hub-cache.js';
import { HubClient } from './hub-client.js';
import { checkInnerPath, checkRepositoryName, listRepository, type RepositoryFile, resolveUrl } from './repository.js';
import { DEFAULT_RETRY_POLICY, type RetryPolicy } from './retry.js';

export interface PullOptions extends RunOptions {
  /** `organisation/name` on the hub. */
  repo: string;
  /** The file, or a part of its name that only one GGUF has, such as `Q4_K_M`. Without it the best quantisation is chosen. */
  file?: string;
  /** Branch, tag or commit; `main` by default. */
  revision?: string;
  /** Address of the hub; by default what `HF_ENDPOINT` says, or Hugging Face. */
  endpoint?: string;
  /** Sent to the hub itself and never to a host it redirects to. None by default: `HF_TOKEN` is not read here. */
  token?: string;
  /** Folder of the Hugging Face cache; by default the one that `resolveModel` looks into. */
  cacheFolder?: string;
  retry?: RetryPolicy;
}

export interface PulledModel {
  repo: string;
  /** Path inside the repository. */
  file: string;
  commit: string;
  /** Path on this machine. */
  path: string;
  sizeBytes: number;
  /** It was in the cache already. */
  cached: boolean;
  /** Other GGUF files of the repository. */
  alternatives: string[];
}

/**
 * Downloads a model from a Hugging Face hub into the standard cache. An interrupted download continues where it stopped; every
 * file is checked by its hash before it gets its name.
 *
 * @throws {CartridgesError}  `DOWNLOAD_FAILED`, `INVALID_INPUT` (no GGUF, or several that match), `DISK_FULL`, `CANCELLED`.
 */
export async function pullModel(options: PullOptions): Promise<PulledModel> {
  const { repo, revision = 'main', onProgress = () => {} } = options;
  checkRepositoryName(repo);
  checkInnerPath(revision, 'INVALID_OPTION', 'the revision');
  const client = createClient(options, onProgress);
  const { commit, files } = await listRepository(client, repo, revision);
  const paths = files.map((file) => file.path);
  const chosen = chooseModelFile(paths, options.file, repo);
  const file = files.find(({ path }) => path === chosen) as RepositoryFile;
  const alternatives = paths.filter((path) => isModelFile(path) && path !== chosen).sort();
  if (options.file === undefined && alternatives.length > 0) {
    const message = `took ${chosen} of ${alternatives.length + 1} files; name another one to get it: ${alternatives.join(', ')}`;
    onProgress({ kind: 'note', stage: 'download', message });
  }

  const cache = new HubCache(options.cacheFolder ?? readEnvironment().hubCacheFolder);
  const blob = cache.blobPath(repo, file.digest.hex);
  const cached = await hasBlob(blob, file.sizeBytes);
  if (!cached) await download(client, repo, commit, file, blob, onProgress);
  const path = await cache.addToSnapshot(repo, revision, commit, file.path, blob);
  return { repo, file: file.path, commit, path, sizeBytes: file.sizeBytes, cached, alternatives };
}

function createClient(options: PullOptions, onProgress: ProgressListener): HubClient {
  const { endpoint = readEnvironment().hubEndpoint, token, signal, retry = DEFAULT_RETRY_POLICY } = options;
  const onRetry = (message: string) => onProgress({ kind: 'warning', stage: 'download', message });
  return new HubClient({
    endpoint,
    ...(token === undefined ? {} : { token }),
    retry: { policy: retry, onRetry, ...(signal === undefined ? {} : { signal }) },
  });
}

async function download(
  client: HubClient,
  repo: string,
  commit: string,
  file: RepositoryFile,
  target: string,
  onProgress: ProgressListener,
): Promise<void> {
  const stage = 'download';
  const started = performance.now();
  const total = file.sizeBytes;
  const url = resolveUrl(client.endpoint, repo, commit, file.path);
  onProgress({ kind: 'start', stage, message: `${repo} ${file.path}`, total });
  const onBytes = (done: number) => onProgress({ kind: 'progress', stage, done, total });
  const onWait = (message: string) => onProgress({ kind: 'note', stage, message });
  await downloadBlob({ client, url, file, target, onBytes, onWait });
  const seconds = (performance.now() - started) / 1000;
  onProgress({ kind: 'end', stage, message: `${file.path} is complete, its hash is right`, seconds });
}
