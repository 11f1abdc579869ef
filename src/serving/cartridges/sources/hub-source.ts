import { downloadBlob } from '../../../models/hub/download-blob.js';
import { HubClient } from '../../../models/hub/hub-client.js';
import { checkRepositoryName, listRepository, resolveUrl } from '../../../models/hub/repository.js';
import { DEFAULT_RETRY_POLICY } from '../../../models/hub/retry.js';
import { chooseCartridgeFile } from './choose-cartridge-file.js';
import { hostRule, type RemoteSource, type RemoteSourceOptions } from './remote-source.js';

export interface HubSourceOptions extends RemoteSourceOptions {
  /** Address of the hub. */
  endpoint: string;
  /** Sent to the hub itself and never to a host it redirects to. */
  token?: string;
}

/** Where the public hub keeps large files. */
export const HUB_HOSTS = ['huggingface.co', 'hf.co'];

/** Cartridges in repositories of a Hugging Face hub; the id is `organisation/name`. */
export function hubSource({ endpoint, token, hosts, retry = DEFAULT_RETRY_POLICY }: HubSourceOptions): RemoteSource {
  const mayVisit = hostRule(endpoint, hosts);
  return {
    async fetch({ id, maxBytes, signal, targetFor, onBytes, onRetry }) {
      checkRepositoryName(id);
      const client = new HubClient({
        endpoint,
        ...(token !== undefined && { token }),
        retry: { policy: retry, signal, onRetry },
        mayVisit,
      });
      const { commit, files } = await listRepository(client, id, 'main');
      const file = chooseCartridgeFile(files, id, maxBytes);
      const target = targetFor(file.digest.hex);
      const url = resolveUrl(client.endpoint, id, commit, file.path);
      await downloadBlob({ client, url, file, target, onBytes: (done) => onBytes(done, file.sizeBytes) });
      return target;
    },
  };
}
