import { CartridgesError } from '../../../core/errors.js';
import type { RetryPolicy } from '../../../models/hub/retry.js';

/** One download, as a source sees it. */
export interface FetchJob {
  /** What the source calls the cartridge. */
  id: string;
  maxBytes: number;
  signal: AbortSignal;
  /** The path for bytes with a hash; what an earlier try left there is continued. */
  targetFor(hash: string): string;
  onBytes(done: number, total: number): void;
  onRetry(message: string): void;
}

/** Somewhere that cartridges can be downloaded from. */
export interface RemoteSource {
  /** Downloads the file of a cartridge, checks its hash and returns its path. Rejects with a CartridgesError. */
  fetch(job: FetchJob): Promise<string>;
}

export interface RemoteSourceOptions {
  /** Domains, with what is below them, that the source may redirect a download to, over https. Its own address is always one. */
  hosts: readonly string[];
  retry?: RetryPolicy;
}

/**
 * Which addresses a download may come from: the source's own origin, and https at one of the domains. Throws `INVALID_OPTION`
 * when the source's address is none.
 */
export function hostRule(endpoint: string, domains: readonly string[]): (target: URL) => boolean {
  if (!/^https?:/.test(endpoint) || !URL.canParse(endpoint)) {
    throw new CartridgesError('INVALID_OPTION', `${endpoint} is not an http address to download cartridges from`, {
      hint: 'check HF_ENDPOINT and WANDB_BASE_URL',
    });
  }
  const { origin } = new URL(endpoint);
  return ({ origin: found, protocol, port, hostname }) =>
    found === origin ||
    (protocol === 'https:' && port === '' && domains.some((domain) => hostname === domain || hostname.endsWith(`.${domain}`)));
}
