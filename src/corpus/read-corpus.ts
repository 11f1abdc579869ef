import { throwIfAborted } from '../core/errors.js';
import { sha256 } from '../core/hashing.js';
import type { Document, Resource } from './resource.js';

/** A whole corpus in memory. */
export interface Corpus {
  name: string;
  documents: Document[];
  /** The texts of all documents in their order, a blank line between them. */
  text: string;
  /** SHA-256 of `text`. */
  contentHash: string;
}

/** Reads every document of a resource. Throws what the resource throws: `CORPUS_EMPTY`, `CORPUS_NOT_TEXT`, `CANCELLED`. */
export async function readCorpus(resource: Resource, signal?: AbortSignal): Promise<Corpus> {
  const documents: Document[] = [];
  for await (const document of resource.documents(signal)) {
    throwIfAborted(signal);
    documents.push(document);
  }
  const text = documents.map((document) => document.text).join('\n\n');
  return { name: resource.name, documents, text, contentHash: sha256(text) };
}
