import { basename } from 'node:path';
import { CartridgesError } from '../core/errors.js';
import type { Document, Resource } from './resource.js';
import { decodeText, readBoundedFile } from './text-file.js';

/** One text file as one document. Any valid UTF-8 is text, whatever the file is called. */
export class TextResource implements Resource {
  readonly name: string;
  readonly #path: string;

  constructor(path: string) {
    this.name = basename(path);
    this.#path = path;
  }

  /** Throws `CORPUS_NOT_TEXT` for a binary file and `CORPUS_EMPTY` for one with white space only. */
  async *documents(signal?: AbortSignal): AsyncIterable<Document> {
    const bytes = await readBoundedFile(this.#path, signal);
    const text = decodeText(bytes);
    if (text === undefined) {
      throw new CartridgesError('CORPUS_NOT_TEXT', `${this.#path} is not UTF-8 text`, {
        hint: 'give a text file, or convert this one to UTF-8 text first',
      });
    }
    if (text.trim() === '') {
      throw new CartridgesError('CORPUS_EMPTY', `${this.#path} has no text`, { hint: 'give a file with some text in it' });
    }
    yield { id: this.name, text, metadata: { bytes: bytes.length } };
  }
}
