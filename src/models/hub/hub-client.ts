import { CartridgesError } from '../../core/errors.js';
import { parseRetryAfter, toTransient } from '../../core/retry.js';
import { type RetryOptions, TransientFailure, withRetries } from './retry.js';

const REDIRECT_LIMIT = 10;
/** A page of a file listing has at most 1000 entries of a few hundred bytes. */
const JSON_LIMIT_BYTES = 16 << 20;
const TRANSIENT_STATUS: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504]);

export interface HubClientOptions {
  /** Address of the hub, for example `https://huggingface.co`. */
  endpoint: string;
  /** Sent to the endpoint's own origin and nowhere else. */
  token?: string;
  retry: RetryOptions;
  /** Where a redirect or a link to the next page may lead; anywhere by default. */
  mayVisit?: (target: URL) => boolean;
}

/** A successful answer, its body not read yet. */
export interface HubResponse {
  response: Response;
  /** Headers of the endpoint's own answers, before and after redirects, the later ones winning. */
  hubHeaders: Headers;
}

/** HTTP to a Hugging Face hub: redirects, the token, what can be tried again, and clear errors. */
export class HubClient {
  readonly endpoint: string;
  readonly retry: RetryOptions;
  readonly #token: string | undefined;
  readonly #origin: string;
  readonly #mayVisit: (target: URL) => boolean;

  constructor(options: HubClientOptions) {
    this.endpoint = options.endpoint;
    this.retry = options.retry;
    this.#token = options.token;
    this.#origin = parseEndpoint(options.endpoint).origin;
    this.#mayVisit = options.mayVisit ?? (() => true);
  }

  /** JSON and the address of the next page, if there is one. `what` names the thing in errors. */
  async getJson(url: string, what: string): Promise<{ value: unknown; nextUrl?: string }> {
    return withRetries(async () => {
      const { response } = await this.get(url, what);
      const value = parseJson(await readText(response, what), what);
      return { value, nextUrl: nextPage(response, url) };
    }, this.retry);
  }

  /**
   * One GET, redirects followed, no second try.
   *
   * @throws {TransientFailure}  The connection or the server failed in a way that may pass.
   * @throws {CartridgesError}   `DOWNLOAD_FAILED` for every other answer than a success.
   */
  async get(url: string, what: string, headers: Readonly<Record<string, string>> = {}): Promise<HubResponse> {
    const hubHeaders = new Headers();
    let target = new URL(url);
    for (let hop = 0; hop <= REDIRECT_LIMIT; hop++) {
      if (!this.#mayVisit(target)) {
        throw new CartridgesError('DOWNLOAD_FAILED', `${what}: ${target.host} is not a host that downloads may come from`);
      }
      const response = await this.#send(target, headers);
      if (target.origin === this.#origin) for (const [name, value] of response.headers) hubHeaders.set(name, value);
      const location = response.headers.get('location');
      if (response.status < 300 || response.status >= 400 || location === null) {
        if (response.ok) return { response, hubHeaders };
        await response.body?.cancel();
        throw this.#failure(response, target, what);
      }
      await response.body?.cancel();
      if (!URL.canParse(location, target.href)) {
        throw new CartridgesError('DOWNLOAD_FAILED', `${what}: ${target.host} redirects to an address that is none`);
      }
      target = new URL(location, target);
    }
    throw new CartridgesError('DOWNLOAD_FAILED', `${what}: more than ${REDIRECT_LIMIT} redirects from ${url}`);
  }

  async #send(target: URL, headers: Readonly<Record<string, string>>): Promise<Response> {
    const authorization = this.#token !== undefined && target.origin === this.#origin;
    try {
      return await fetch(target, {
        headers: {
          'user-agent': 'cartridges',
          // Sizes and ranges are those of the stored bytes.
          'accept-encoding': 'identity',
          ...(authorization ? { authorization: `Bearer ${this.#token}` } : {}),
          ...headers,
        },
        redirect: 'manual',
        signal: this.retry.signal ?? null,
      });
    } catch (error) {
      throw toTransient(error, `${target.host} cannot be reached`);
    }
  }

  #failure(response: Response, target: URL, what: string): Error {
    const status = response.status;
    if (TRANSIENT_STATUS.has(status)) {
      const retryAfterMs = parseRetryAfter(response.headers.get('retry-after'));
      return new TransientFailure(`${target.host} answered ${status} for ${what}`, { retryAfterMs });
    }
    if (status === 404) {
      return new CartridgesError('DOWNLOAD_FAILED', `${what} does not exist on ${target.host}`, {
        hint: 'check the name of the repository, the file and the revision',
      });
    }
    if (status === 401 || status === 403) {
      return new CartridgesError('DOWNLOAD_FAILED', `${target.host} refused access to ${what} (HTTP ${status})`, {
        hint: this.#token
          ? 'the token in HF_TOKEN has no access: accept the conditions on the page of the model, or check the name'
          : 'check the name; for a private or gated model set HF_TOKEN to a token that has access',
      });
    }
    return new CartridgesError('DOWNLOAD_FAILED', `${target.host} answered ${status} for ${what}`);
  }
}

/** The pieces of a body; a connection that breaks is a TransientFailure. */
export async function* bodyPieces(response: Response): AsyncGenerator<Uint8Array> {
  if (!response.body) return;
  try {
    for await (const piece of response.body) yield piece as Uint8Array;
  } catch (error) {
    throw toTransient(error, 'the connection was lost');
  }
}

async function readText(response: Response, what: string): Promise<string> {
  const pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const piece of bodyPieces(response)) {
    sizeBytes += piece.byteLength;
    if (sizeBytes > JSON_LIMIT_BYTES) {
      throw new CartridgesError('DOWNLOAD_FAILED', `${what}: the answer is larger than ${JSON_LIMIT_BYTES} bytes`);
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new CartridgesError('DOWNLOAD_FAILED', `${what}: the answer is not JSON`, {
      hint: 'check HF_ENDPOINT: it must be the address of a Hugging Face hub',
      cause,
    });
  }
}

function parseEndpoint(endpoint: string): URL {
  if (/^https?:\/\//.test(endpoint) && URL.canParse(endpoint)) return new URL(endpoint);
  throw new CartridgesError('INVALID_OPTION', `the hub endpoint ${endpoint} is not an http address`, {
    hint: 'set HF_ENDPOINT to an address like https://huggingface.co, or unset it',
  });
}

/** The target of a `Link: <…>; rel="next"` header. */
function nextPage(response: Response, url: string): string | undefined {
  const target = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('link') ?? '')?.[1];
  return target === undefined ? undefined : new URL(target, url).href;
}
