import { CartridgesError } from '../core/errors.js';
import { sha256 } from '../core/hashing.js';
import type { Tokenizer } from '../core/tokenizer.js';
import type { Chunk, Document } from './resource.js';
import { CUTS, type Span } from './text-pieces.js';

/** Smallest `maxTokens`: any single character fits. */
const MINIMUM_CHUNK_TOKENS = 16;

export interface ChunkingOptions {
  /** A chunk with fewer tokens takes sentences of the next paragraph rather than end with its own. */
  minTokens: number;
  /** No chunk has more tokens. */
  maxTokens: number;
}

type TokenCounter = (text: string) => number;

/** A part of a document that goes into a chunk whole; `level` is the index in `CUTS` of the cut that made it. */
interface Piece extends Span {
  level: number;
  tokens: number;
}

/** UTF-16 units. A piece longer than `maxTokens` of these is cut without counting its tokens. */
const LONGEST_TOKEN = 64;

/**
 * Cuts documents into chunks of at most `maxTokens` tokens, none over two documents. Whole paragraphs are packed together
 * while they fit; a paragraph that is too long is cut at sentence ends, then at line ends, then between words. All text is
 * covered: only white space lies between two chunks.
 */
export function chunkDocuments(
  documents: readonly Document[],
  tokenizer: Pick<Tokenizer, 'encode'>,
  options: ChunkingOptions,
): Chunk[] {
  checkOptions(options);
  const countTokens: TokenCounter = (text) => tokenizer.encode(text).length;
  return documents.flatMap((document) => chunkDocument(document, countTokens, options));
}

function checkOptions({ minTokens, maxTokens }: ChunkingOptions): void {
  if (maxTokens >= MINIMUM_CHUNK_TOKENS && minTokens >= 0 && minTokens <= maxTokens) return;
  throw new CartridgesError('INVALID_OPTION', `chunks of ${minTokens} to ${maxTokens} tokens are not possible`, {
    hint: `use at least ${MINIMUM_CHUNK_TOKENS} for the most tokens, and no more than that for the fewest`,
  });
}

function chunkDocument(document: Document, countTokens: TokenCounter, { minTokens, maxTokens }: ChunkingOptions): Chunk[] {
  const { text } = document;
  const cut = (span: Span, level: number) => toPieces(text, span, level, countTokens, maxTokens).reverse();
  const chunks: Chunk[] = [];
  const waiting = cut({ start: 0, end: text.length }, 0); // the next piece is the last
  let window: Piece[] = [];
  while (waiting.length > 0 || window.length > 0) {
    const piece = waiting.pop();
    const windowTokens = window.reduce((sum, { tokens }) => sum + tokens, 0);
    if (piece && windowTokens + piece.tokens <= maxTokens) {
      window.push(piece);
    } else if (piece && (window.length === 0 || (windowTokens < minTokens && piece.level === 0))) {
      for (const part of cut(piece, Math.min(piece.level + 1, CUTS.length - 1))) waiting.push(part);
    } else {
      if (piece) waiting.push(piece);
      waiting.push(...dropUntilFitting(text, window, countTokens, maxTokens));
      chunks.push(...toChunks(document, window));
      window = [];
    }
  }
  return chunks;
}

function toPieces(text: string, span: Span, level: number, countTokens: TokenCounter, maxTokens: number): Piece[] {
  return CUTS[level](text, span).map(({ start, end }) => {
    const surelyTooLong = end - start > maxTokens * LONGEST_TOKEN;
    const tokens = surelyTooLong ? Number.POSITIVE_INFINITY : countPiece(text.slice(start, end), countTokens);
    return { start, end, level, tokens };
  });
}

/** Tokens that a piece adds to a chunk: a trailing space usually joins the next word's token, a line end does not. */
function countPiece(text: string, countTokens: TokenCounter): number {
  const trimmed = text.trimEnd();
  return countTokens(trimmed) + (text.includes('\n', trimmed.length) ? 1 : 0);
}

/** Takes pieces off the end of a window until its text fits, since the tokens of neighbours do not add up exactly. */
function dropUntilFitting(text: string, window: Piece[], countTokens: TokenCounter, maxTokens: number): Piece[] {
  const dropped: Piece[] = [];
  const windowText = () => text.slice(window[0]?.start, window.at(-1)?.end).trimEnd();
  while (window.length > 1 && countTokens(windowText()) > maxTokens) dropped.push(window.pop() as Piece);
  return dropped;
}

/** One chunk without blank lines before it and white space after it, or none when nothing else is there. */
function toChunks(document: Document, window: readonly Piece[]): Chunk[] {
  const raw = document.text.slice(window[0]?.start, window.at(-1)?.end).trimEnd();
  const blank = /^(?:[ \t]*\r?\n)*/.exec(raw)?.[0].length ?? 0;
  const text = raw.slice(blank);
  if (text.trim() === '') return [];
  const start = (window[0] as Piece).start + blank;
  const end = start + text.length;
  return [{ id: `${document.id}:${start}-${end}`, documentId: document.id, text, start, end, contentHash: sha256(text) }];
}
