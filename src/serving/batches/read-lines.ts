import { createReadStream } from 'node:fs';

export interface Line {
  /** Counted from 1. */
  number: number;
  /** Byte at which it begins in the file. */
  offset: number;
  /** Its bytes without the line feed. */
  length: number;
  /** Undefined when it is longer than allowed. */
  bytes: Buffer | undefined;
  /** Whether a line feed ends it: the last line of a file may lack one. */
  isTerminated: boolean;
}

const LINE_FEED = 0x0a;

/** The lines of a file, read in pieces: of a line that is too long no more than `maxBytes` are ever held. */
export async function* readLines(path: string, maxBytes: number): AsyncGenerator<Line> {
  const cutter = new LineCutter(maxBytes);
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(LINE_FEED); end >= 0; end = chunk.indexOf(LINE_FEED, from)) {
      cutter.add(chunk.subarray(from, end));
      yield cutter.cut(true);
      from = end + 1;
    }
    cutter.add(chunk.subarray(from));
  }
  if (cutter.length > 0) yield cutter.cut(false);
}

class LineCutter {
  length = 0;
  readonly #maxBytes: number;
  #pieces: Buffer[] = [];
  #number = 0;
  #offset = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(piece: Buffer): void {
    this.length += piece.length;
    if (this.length <= this.#maxBytes) this.#pieces.push(piece);
    else this.#pieces = [];
  }

  cut(isTerminated: boolean): Line {
    const { length } = this;
    const bytes = length <= this.#maxBytes ? Buffer.concat(this.#pieces) : undefined;
    const line = { number: ++this.#number, offset: this.#offset, length, bytes, isTerminated };
    this.#offset += length + 1;
    this.#pieces = [];
    this.length = 0;
    return line;
  }
}
