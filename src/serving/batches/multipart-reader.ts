import { throwIfAborted } from '../../core/errors.js';
import { RequestError } from '../request-error.js';

/** The head of one part of a form. */
export interface PartHead {
  name: string;
  /** Only a file has one. */
  filename: string | undefined;
}

/** Of the head of a part. */
const MAX_LINE_BYTES = 8192;
const MAX_HEAD_LINES = 16;
/** What may stand before the first part, or in one that nobody reads. */
const MAX_SKIPPED_BYTES = 1 << 16;
/** What a client may still send after its form was refused, and for how long, before the connection is cut. */
const MAX_DISCARDED_BYTES = 64 << 20;
const DISCARD_MS = 10_000;
const LINE_END = '\r\n';
/** A quoted text, with quotes inside it escaped by a backslash, or a word. */
const VALUE = String.raw`(?:"((?:[^"\\]|\\.)*)"|([^;\s"]+))`;
const NAME = new RegExp(String.raw`;\s*name=${VALUE}`, 'i');
const FILENAME = new RegExp(String.raw`;\s*filename=${VALUE}`, 'i');
const BOUNDARY = /;\s*boundary=(?:"([^"]{1,70})"|([^;\s"]{1,70}))/i;

/**
 * Reads a form (RFC 7578) part by part as it comes, so that a file of any size passes through a buffer of one chunk. Hono and
 * fetch have no reader of this kind: theirs hold the whole body in memory.
 *
 * @example
 * for (let part = await reader.nextPart(); part; part = await reader.nextPart()) {
 *   for await (const bytes of reader.content()) …
 * }
 */
export class MultipartReader {
  readonly #source: ReadableStreamDefaultReader<Uint8Array>;
  readonly #signal: AbortSignal;
  readonly #delimiter: Buffer;
  readonly #stop = () => this.#source.cancel().catch(() => undefined);
  /** A delimiter begins with a line end, which the first of a body lacks. */
  #buffer = Buffer.from(LINE_END);
  #isInPart = true;

  /** Throws 400 for a body of another type. */
  constructor(body: ReadableStream<Uint8Array> | null, contentType: string | null, signal: AbortSignal) {
    const boundary = /^multipart\/form-data\b/i.test(contentType ?? '') ? BOUNDARY.exec(contentType!) : null;
    if (boundary === null || body === null) throw new RequestError(400, 'the body must be multipart/form-data with a boundary');
    this.#delimiter = Buffer.from(`${LINE_END}--${boundary[1] ?? boundary[2]}`);
    this.#source = body.getReader();
    this.#signal = signal;
    signal.addEventListener('abort', this.#stop);
  }

  /** The next part, what is left of the last one being skipped; undefined behind the last. */
  async nextPart(): Promise<PartHead | undefined> {
    let skipped = 0;
    for await (const bytes of this.content()) {
      skipped += bytes.byteLength;
      if (skipped > MAX_SKIPPED_BYTES) throw malformed(`more than ${MAX_SKIPPED_BYTES} bytes belong to no part that is read`);
    }
    if (await this.#isAtEnd()) return undefined;
    if ((await this.#takeLine()).trim() !== '') throw malformed('something follows a boundary on its line');
    const disposition = await this.#takeHead();
    const name = parameterOf(NAME, disposition);
    if (name === undefined) throw malformed('a part has no name');
    this.#isInPart = true;
    return { name, filename: parameterOf(FILENAME, disposition) };
  }

  /** The bytes of the part that {@link nextPart} began. */
  async *content(): AsyncGenerator<Uint8Array> {
    while (this.#isInPart) {
      const end = this.#buffer.indexOf(this.#delimiter);
      if (end >= 0) {
        this.#isInPart = false;
        yield* this.#take(end);
        this.#buffer = this.#buffer.subarray(this.#delimiter.length);
      } else {
        yield* this.#take(this.#buffer.length - this.#delimiter.length + 1);
        await this.#fill();
      }
    }
  }

  /**
   * Ends reading. A client that is still sending would not read why it was refused if the connection were cut, so what is left
   * of the body is thrown away as it comes, up to a bound.
   */
  close(): void {
    this.#signal.removeEventListener('abort', this.#stop);
    // A connection that breaks now has nothing to tell.
    this.#discardRest().catch(() => undefined);
  }

  async #discardRest(): Promise<void> {
    const timer = setTimeout(this.#stop, DISCARD_MS);
    for (let bytes = 0; bytes <= MAX_DISCARDED_BYTES; ) {
      const { done, value } = await this.#source.read();
      if (done) break;
      bytes += value.byteLength;
    }
    clearTimeout(timer);
    await this.#stop();
  }

  *#take(length: number): Generator<Uint8Array> {
    if (length <= 0) return;
    const bytes = this.#buffer.subarray(0, length);
    this.#buffer = this.#buffer.subarray(length);
    yield bytes;
  }

  /** Behind a boundary: two dashes follow the last one. */
  async #isAtEnd(): Promise<boolean> {
    while (this.#buffer.length < 2) await this.#fill();
    return this.#buffer.toString('latin1', 0, 2) === '--';
  }

  /** The header that says what a part is; the others are left out. */
  async #takeHead(): Promise<string> {
    let disposition = '';
    for (let lines = 0; lines < MAX_HEAD_LINES; lines++) {
      const line = await this.#takeLine();
      if (line === '') return disposition;
      if (/^content-disposition:/i.test(line)) disposition = line;
    }
    throw malformed(`the head of a part has more than ${MAX_HEAD_LINES} lines`);
  }

  async #takeLine(): Promise<string> {
    let end = this.#buffer.indexOf(LINE_END);
    for (; end < 0 && this.#buffer.length <= MAX_LINE_BYTES; end = this.#buffer.indexOf(LINE_END)) await this.#fill();
    if (end < 0 || end > MAX_LINE_BYTES) throw malformed(`a line of a part's head has more than ${MAX_LINE_BYTES} bytes`);
    const line = this.#buffer.toString('utf8', 0, end);
    this.#buffer = this.#buffer.subarray(end + LINE_END.length);
    return line;
  }

  async #fill(): Promise<void> {
    throwIfAborted(this.#signal);
    const { done, value } = await this.#source.read().catch((error) => {
      throwIfAborted(this.#signal);
      throw error;
    });
    throwIfAborted(this.#signal);
    if (done) throw malformed('it ends before its closing boundary');
    this.#buffer = Buffer.concat([this.#buffer, value]);
  }
}

function parameterOf(pattern: RegExp, disposition: string): string | undefined {
  const match = pattern.exec(disposition);
  return match === null ? undefined : (match[1]?.replace(/\\(.)/g, '$1') ?? match[2]);
}

function malformed(problem: string): RequestError {
  return new RequestError(400, `the multipart body is malformed: ${problem}`);
}
