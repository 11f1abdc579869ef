import { type FileHandle, open } from 'node:fs/promises';
import { rethrow } from '../../core/errors.js';
import { readLines } from './read-lines.js';

/** What became of one request of a batch. */
export interface RequestResult {
  index: number;
  /** It goes to the file of errors. */
  failed: boolean;
  /** Its line in the output, JSON without a line feed. */
  json: string;
}

interface Place {
  offset: number;
  length: number;
  failed: boolean;
}

const HEAD = /^(\d{1,9}) ([01]) \{/;
const CLOSING_BRACE = 0x7d;
const MAX_HEAD_BYTES = 13;

/**
 * The results of a batch, appended to a file as they come, in any order: `index failed json`, a line each. A result counts when
 * it is on the disk; results that come together are synced together. A crash loses none of them, and what it cut off is not
 * read again, so that each request has one result or none.
 */
export class ResultsLog {
  readonly #file: FileHandle;
  readonly #places: Map<number, Place>;
  readonly #counts = { completed: 0, failed: 0 };
  readonly #waiting: { result: RequestResult; line: Buffer }[] = [];
  #writing: Promise<void> | undefined;
  #end: number;

  private constructor(file: FileHandle, places: Map<number, Place>, end: number) {
    this.#file = file;
    this.#places = places;
    this.#end = end;
    for (const { failed } of places.values()) this.#counts[failed ? 'failed' : 'completed']++;
  }

  /** Opens a log, or makes it; of one that was cut off the whole lines are kept. */
  static async open(path: string, maxAnswerBytes: number): Promise<ResultsLog> {
    const file = await open(path, 'a+').catch(rethrow);
    try {
      const { places, end } = await readPlaces(path, maxAnswerBytes + MAX_HEAD_BYTES);
      await file.truncate(end);
      return new ResultsLog(file, places, end);
    } catch (error) {
      await file.close();
      return rethrow(error);
    }
  }

  /** Results that failed and that did not. */
  get counts(): { completed: number; failed: number } {
    return { ...this.#counts };
  }

  /** Of the results that are on the disk. */
  get bytes(): number {
    return this.#end;
  }

  has(index: number): boolean {
    return this.#places.has(index);
  }

  /** Bytes that a result takes. */
  static size(result: RequestResult): number {
    return lineOf(result).length;
  }

  /** Resolves when the result is on the disk. */
  append(result: RequestResult): Promise<void> {
    this.#waiting.push({ result, line: lineOf(result) });
    this.#writing ??= this.#writeWaiting();
    return this.#writing;
  }

  /** The result of a request as it was appended. */
  async read(index: number): Promise<Omit<RequestResult, 'index'> | undefined> {
    const place = this.#places.get(index);
    if (place === undefined) return undefined;
    const buffer = Buffer.alloc(place.length);
    await this.#file.read(buffer, 0, place.length, place.offset);
    return { failed: place.failed, json: buffer.toString('utf8') };
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  /** After a failure it stays failed: nothing is appended behind a line that may be torn. */
  async #writeWaiting(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting.splice(0);
      await this.#file.appendFile(Buffer.concat(group.map(({ line }) => line))).catch(rethrow);
      await this.#file.datasync().catch(rethrow);
      for (const { result, line } of group) this.#place(result, line);
    }
    this.#writing = undefined;
  }

  #place({ index, failed, json }: RequestResult, line: Buffer): void {
    const length = Buffer.byteLength(json);
    this.#places.set(index, { offset: this.#end + line.length - 1 - length, length, failed });
    this.#counts[failed ? 'failed' : 'completed']++;
    this.#end += line.length;
  }
}

function lineOf({ index, failed, json }: RequestResult): Buffer {
  return Buffer.from(`${index} ${failed ? 1 : 0} ${json}\n`);
}

/** Where the results of a log are, up to the first line that is not whole. */
async function readPlaces(path: string, maxLineBytes: number): Promise<{ places: Map<number, Place>; end: number }> {
  const places = new Map<number, Place>();
  let end = 0;
  for await (const { bytes, offset, length, isTerminated } of readLines(path, maxLineBytes)) {
    const head = isTerminated && bytes?.at(-1) === CLOSING_BRACE ? HEAD.exec(bytes.toString('latin1', 0, MAX_HEAD_BYTES)) : null;
    if (head === null) break;
    const headLength = head[0].length - 1;
    places.set(Number(head[1]), { offset: offset + headLength, length: length - headLength, failed: head[2] === '1' });
    end = offset + length + 1;
  }
  return { places, end };
}
