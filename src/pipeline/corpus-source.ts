import type { RunOptions } from '../core/progress.js';
import type { Tokenizer } from '../core/tokenizer.js';
import { openResource } from '../corpus/open-resource.js';
import { type Corpus, readCorpus } from '../corpus/read-corpus.js';

/** A corpus with its length in the model's tokens. */
export interface TokenizedCorpus extends Corpus {
  tokens: number;
}

/** Reads a file or folder. Throws `CORPUS_EMPTY`, `CORPUS_NOT_TEXT` or `FILE_NOT_FOUND`. */
export async function loadCorpus(source: string, tokenizer: Tokenizer, run: RunOptions = {}): Promise<TokenizedCorpus> {
  return tokenizeCorpus(await readSource(source, run), tokenizer, run);
}

/** The part of {@link loadCorpus} that needs no model, and throws what it throws. */
export async function readSource(source: string, run: RunOptions = {}): Promise<Corpus> {
  return readCorpus(await openResource(source, run.onProgress), run.signal);
}

export function tokenizeCorpus(corpus: Corpus, tokenizer: Tokenizer, run: RunOptions = {}): TokenizedCorpus {
  const started = performance.now();
  const tokens = tokenizer.encode(corpus.text).length;
  const documents = corpus.documents.length === 1 ? '1 document' : `${corpus.documents.length} documents`;
  run.onProgress?.({
    kind: 'end',
    stage: 'corpus',
    message: `${corpus.name}: ${documents}, ${tokens} tokens`,
    seconds: (performance.now() - started) / 1000,
  });
  return { ...corpus, tokens };
}
