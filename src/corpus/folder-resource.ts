import { readdir } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { CartridgesError, rethrow, throwIfAborted } from '../core/errors.js';
import type { ProgressListener } from '../core/progress.js';
import { WORK_FOLDER_MARK } from '../core/work-folder.js';
import type { Document, Resource } from './resource.js';
import { decodeText, readBoundedFile } from './text-file.js';

/** Most files that a folder may hold, of any kind. */
const MAXIMUM_FOLDER_FILES = 100_000;

/** Most bytes of text that a folder may hold: joined, it must fit a JavaScript string. */
const MAXIMUM_FOLDER_BYTES = 256 << 20;

/** Files that ask about a corpus and are no part of it. */
const QUESTION_FILES = new Set(['questions.jsonl', 'unanswerable.jsonl', 'general.jsonl']);

const TEXT_EXTENSIONS = new Set(
  `adoc asciidoc bash bat bib c cc cfg clj cmake conf cpp cs css csv cxx dart diff eml erl ex exs fs go gradle graphql h hpp hs
  htm html ini ipynb java jl js json json5 jsonl jsx kt less lisp log lua m markdown mbox md mdx mjs ml ndjson nim org patch php
  pl po properties proto ps1 py r rb rst rs sass scala scm scss sgml sh sol sql srt sty svelte swift tcl tex text tf toml ts
  tsv tsx txt v vb vhdl vtt vue xhtml xml yaml yml zig zsh`.split(/\s+/),
);

/**
 * The text files of a folder, its subfolders included, in the order of their paths. A document's id is the path inside the
 * folder with `/` between the parts. Hidden files, question files and files of other kinds are left out, and symbolic links
 * are not followed: what they name inside the folder is read anyway, and what is outside does not belong to it. Folders that this
 * package wrote, datasets and runs, are left out: a build would learn from its own logs, and not find itself again.
 */
export class FolderResource implements Resource {
  readonly name: string;
  readonly #path: string;
  readonly #onProgress: ProgressListener | undefined;

  constructor(path: string, onProgress?: ProgressListener) {
    this.name = basename(path);
    this.#path = path;
    this.#onProgress = onProgress;
  }

  /** Skipped files are told in one warning at the end. Throws `CORPUS_EMPTY` when no file has text. */
  async *documents(signal?: AbortSignal): AsyncIterable<Document> {
    const { files, links, ours } = await listFiles(this.#path);
    const skipped: string[] = [];
    let documents = 0;
    let bytes = 0;
    for (const id of files) {
      throwIfAborted(signal);
      const content = isTextName(id) ? await readBoundedFile(join(this.#path, id), signal) : undefined;
      const text = content && decodeText(content);
      if (content === undefined || text === undefined) {
        skipped.push(id);
      } else if (text.trim() !== '') {
        bytes += content.length;
        this.#checkSize(bytes);
        documents++;
        yield { id, text, metadata: { bytes: content.length } };
      }
    }
    this.#warn('files that are not recognised as text', skipped);
    this.#warn('files that are symbolic links', links);
    this.#warn('folders that cartridges has written', ours);
    if (documents === 0) {
      throw new CartridgesError('CORPUS_EMPTY', `${this.#path} has no file with text`, {
        hint: 'give a text file or a folder that has some, for example .txt or .md',
      });
    }
  }

  #checkSize(bytes: number): void {
    if (bytes <= MAXIMUM_FOLDER_BYTES) return;
    throw new CartridgesError('INVALID_INPUT', `${this.#path} has more than ${MAXIMUM_FOLDER_BYTES >> 20} MiB of text`, {
      hint: 'give a smaller folder',
    });
  }

  #warn(which: string, paths: readonly string[]): void {
    if (paths.length === 0) return;
    const shown = paths.slice(0, 5).join(', ');
    const message = `${this.#path}: skipped ${paths.length} ${which}: ${shown}${paths.length > 5 ? ', …' : ''}`;
    this.#onProgress?.({ kind: 'warning', stage: 'corpus', message });
  }
}

function isTextName(path: string): boolean {
  const extension = extname(path).slice(1).toLowerCase();
  return extension === '' || TEXT_EXTENSIONS.has(extension);
}

/** Paths inside `root` of its regular files, its symbolic links and the folders that are ours, each sorted by code units. */
async function listFiles(root: string): Promise<{ files: string[]; links: string[]; ours: string[] }> {
  const files: string[] = [];
  const links: string[] = [];
  const ours: string[] = [];
  const folders = [''];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const entries = await readdir(join(root, folder), { withFileTypes: true }).catch(rethrow);
    if (folder !== '' && entries.some(({ name }) => name === WORK_FOLDER_MARK)) {
      ours.push(folder);
      continue;
    }
    for (const entry of entries) {
      if (entry.name.startsWith('.') || QUESTION_FILES.has(entry.name)) continue;
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (entry.isDirectory()) folders.push(path);
      else if (entry.isFile()) files.push(path);
      else if (entry.isSymbolicLink()) links.push(path);
    }
    if (files.length > MAXIMUM_FOLDER_FILES) {
      throw new CartridgesError('INVALID_INPUT', `${root} has more than ${MAXIMUM_FOLDER_FILES} files`, {
        hint: 'give a smaller folder',
      });
    }
  }
  return { files: files.sort(), links: links.sort(), ours: ours.sort() };
}
