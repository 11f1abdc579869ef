/** A piece of a corpus with a stable identity. */
export interface Document {
  /** The same over runs: the path inside the corpus. */
  id: string;
  title?: string;
  text: string;
  metadata: Record<string, unknown>;
}

/** Anything that text can be drawn from. */
export interface Resource {
  readonly name: string;
  documents(signal?: AbortSignal): AsyncIterable<Document>;
}

/** A window of a document; `start` and `end` are UTF-16 offsets into its text. */
export interface Chunk {
  id: string;
  documentId: string;
  text: string;
  start: number;
  end: number;
  contentHash: string;
}
