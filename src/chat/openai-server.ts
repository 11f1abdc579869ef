import { CartridgesError } from '../core/errors.js';
import { tryParse } from '../core/json.js';
import { parseRetryAfter, type RetryPolicy, TransientFailure, toTransient, withRetries } from '../core/retry.js';
import { Patience } from './patience.js';
import { RequestSlots } from './request-slots.js';
import { type Refusal, readRefusal, refusalError } from './server-errors.js';
import { readEvents } from './server-sent-events.js';

export interface OpenAiServerOptions {
  /** For example `http://127.0.0.1:8321`, with or without `/v1` at its end. */
  url: string;
  /** Sent to this address and nowhere else; never part of a message. */
  apiKey?: string;
  /** Requests at the same time; more of them wait in order. By default 8. */
  maxRequests?: number;
  /** How long the server may send nothing, between two pieces of a stream too. By default 240 s; `fetch` ends at 300. */
  silenceMs?: number;
  retry?: RetryPolicy;
  /** Told before each further try. */
  onRetry?: (message: string) => void;
}

const DEFAULT_MAX_REQUESTS = 8;
const DEFAULT_SILENCE_MS = 240_000;
const DEFAULT_RETRY: RetryPolicy = { attempts: 5, delayMs: 500 };
/** Log-probs of a long answer take a few megabytes. */
const MAX_ANSWER_BYTES = 64 << 20;
/** Of a page that says why a request is refused, no more is read. */
const MAX_REFUSAL_BYTES = 64 << 10;
/** Statuses that pass by themselves. */
const TRANSIENT_STATUS: ReadonlySet<number> = new Set([429, 503]);

/**
 * HTTP to a server with OpenAI's API: address and key, limits, further tries, and errors that say what the server said.
 *
 * A request is repeated while the server is busy (429, 503) or cannot be reached, with growing waits or as long as
 * `Retry-After` says, up to a minute; a stream only until it has begun.
 */
export class OpenAiServer {
  /** The address without `/v1`, as messages name it. */
  readonly url: string;
  readonly #apiKey: string | undefined;
  readonly #silenceMs: number;
  readonly #retry: { policy: RetryPolicy; onRetry: (message: string) => void };
  readonly #slots: RequestSlots;

  /** Throws `INVALID_OPTION` for an address or a key that cannot be one. */
  constructor(options: OpenAiServerOptions) {
    this.url = parseAddress(options.url);
    this.#apiKey = checkKey(options.apiKey);
    this.#silenceMs = options.silenceMs ?? DEFAULT_SILENCE_MS;
    this.#retry = { policy: options.retry ?? DEFAULT_RETRY, onRetry: options.onRetry ?? (() => {}) };
    this.#slots = new RequestSlots(options.maxRequests ?? DEFAULT_MAX_REQUESTS);
  }

  /**
   * The JSON that the server answers; a POST when there is a body. Rejects with `NOT_ALLOWED`, `NOT_FOUND`, `OVERLOADED`,
   * `CONTEXT_OVERFLOW`, `SERVER_FAILED` or `CANCELLED`.
   */
  async json(path: string, body: unknown, signal?: AbortSignal): Promise<unknown> {
    const release = await this.#slots.take(signal);
    const patience = new Patience(this.#silenceMs, signal);
    try {
      return await this.#repeated(async () => {
        const response = await this.#send(path, body, patience);
        return parseJson(await readText(this.#pieces(response, patience)), this.url);
      }, signal);
    } catch (error) {
      throw patience.reason(this.url) ?? error;
    } finally {
      patience.end();
      release();
    }
  }

  /** The data of each event that the server streams. Throws as {@link json} rejects; leaving the loop ends the request. */
  async *events(path: string, body: unknown, signal?: AbortSignal): AsyncGenerator<string> {
    const release = await this.#slots.take(signal);
    const patience = new Patience(this.#silenceMs, signal);
    try {
      const response = await this.#repeated(() => this.#send(path, body, patience), signal);
      yield* readEvents(this.#pieces(response, patience));
    } catch (error) {
      throw patience.reason(this.url) ?? (error instanceof TransientFailure ? this.#lost(error) : error);
    } finally {
      patience.end();
      release();
    }
  }

  /** What the server says of itself, without the key that it may have been told. */
  refuse(refusal: Refusal): CartridgesError {
    const message = this.#apiKey === undefined ? refusal.message : refusal.message.replaceAll(this.#apiKey, '…');
    return refusalError(this.url, { ...refusal, message });
  }

  #repeated<T>(attempt: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    return withRetries(attempt, { ...this.#retry, signal }, (failure) =>
      CartridgesError.is(failure.cause) ? failure.cause : this.#lost(failure),
    );
  }

  async #send(path: string, body: unknown, patience: Patience): Promise<Response> {
    const response = await patience.during(
      fetch(`${this.url}/v1${path}`, {
        method: body === undefined ? 'GET' : 'POST',
        headers: {
          'user-agent': 'cartridges',
          ...(body !== undefined && { 'content-type': 'application/json' }),
          ...(this.#apiKey !== undefined && { authorization: `Bearer ${this.#apiKey}` }),
        },
        body: body === undefined ? null : JSON.stringify(body),
        // The key and the chat are for this address.
        redirect: 'manual',
        signal: patience.signal,
      }).catch((error) => {
        throw toTransient(error, `${this.url} cannot be reached`);
      }),
    );
    if (response.ok) return response;
    throw await this.#refused(response, patience);
  }

  async #refused(response: Response, patience: Patience): Promise<Error> {
    const { status, headers } = response;
    const text = await readText(this.#pieces(response, patience), MAX_REFUSAL_BYTES);
    const error = this.refuse(readRefusal(tryParse(text), status) ?? { status, message: describe(response, text), names: [] });
    if (!TRANSIENT_STATUS.has(status)) return error;
    return new TransientFailure(error.message, { retryAfterMs: parseRetryAfter(headers.get('retry-after')), cause: error });
  }

  /** The bytes of a body as they come. Throws `SERVER_FAILED` when they are too many. */
  async *#pieces(response: Response, patience: Patience): AsyncGenerator<Uint8Array> {
    if (!response.body) return;
    const reader: ReadableStreamDefaultReader<Uint8Array> = response.body.getReader();
    let sizeBytes = 0;
    try {
      for (;;) {
        const { done, value } = await patience.during(reader.read());
        if (done) return;
        sizeBytes += value.byteLength;
        if (sizeBytes > MAX_ANSWER_BYTES) throw this.#tooLong();
        yield value;
      }
    } catch (error) {
      throw toTransient(error, `the connection to ${this.url} was lost`);
    } finally {
      // A body that broke has nothing left to cancel.
      reader.cancel().catch(() => undefined);
    }
  }

  #tooLong(): CartridgesError {
    return new CartridgesError('SERVER_FAILED', `${this.url} sent more than ${MAX_ANSWER_BYTES} bytes`);
  }

  #lost(failure: TransientFailure): CartridgesError {
    return new CartridgesError('SERVER_FAILED', failure.message, {
      hint: 'check the address, and that the server runs',
      cause: failure,
    });
  }
}

function parseAddress(address: string): string {
  const url = /^https?:\/\//i.test(address) && URL.canParse(address) ? new URL(address) : undefined;
  if (url && url.username === '' && url.password === '' && url.search === '' && url.hash === '') {
    return `${url.origin}${url.pathname.replace(/\/+$/, '').replace(/\/v1$/, '')}`;
  }
  // The address is not repeated: a password may be in it.
  throw new CartridgesError('INVALID_OPTION', 'the address of the server is no http address, or has more than host and path', {
    hint: 'give an address such as http://127.0.0.1:8321; a key goes into CARTRIDGES_API_KEY',
  });
}

function checkKey(key: string | undefined): string | undefined {
  if (key === undefined || /^[\x21-\x7e]+$/.test(key)) return key;
  throw new CartridgesError('INVALID_OPTION', 'the API key has characters that no key has, such as spaces or line ends', {
    hint: 'check CARTRIDGES_API_KEY',
  });
}

/** The text of a body; no further piece is taken when there are `enough` bytes. */
async function readText(pieces: AsyncIterable<Uint8Array>, enough = Number.POSITIVE_INFINITY): Promise<string> {
  const parts: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const piece of pieces) {
    parts.push(piece);
    sizeBytes += piece.byteLength;
    if (sizeBytes >= enough) break;
  }
  return Buffer.concat(parts).toString('utf8');
}

function parseJson(text: string, server: string): unknown {
  const value = tryParse(text);
  if (value !== undefined) return value;
  throw new CartridgesError('SERVER_FAILED', `${server} sent an answer that is not JSON`, {
    hint: "check the address: it must be that of a server with OpenAI's API",
  });
}

function describe(response: Response, text: string): string {
  const location = response.headers.get('location');
  return location === null ? text.trim() : `it redirects to ${location}; give that address if it is the right one`;
}
