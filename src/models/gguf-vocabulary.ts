import type { GgufCursor } from './gguf-cursor.js';

type Kind = 'texts' | 'numbers' | 'bytes';

/** The arrays of a vocabulary that libllama reads as raw memory of this kind, and whether it reads one element for each token. */
const ARRAYS: readonly { key: string; kind: Kind; perToken: boolean }[] = [
  { key: 'tokenizer.ggml.tokens', kind: 'texts', perToken: true },
  { key: 'tokenizer.ggml.token_type', kind: 'numbers', perToken: true },
  { key: 'tokenizer.ggml.scores', kind: 'numbers', perToken: true },
  { key: 'tokenizer.ggml.merges', kind: 'texts', perToken: false },
  { key: 'tokenizer.ggml.precompiled_charsmap', kind: 'bytes', perToken: false },
];

/**
 * Checks that the arrays of the vocabulary, where there are any, have the element types and lengths that libllama takes for
 * granted, and that no token is there twice, on which it aborts the process. Throws the cursor's `INVALID_MODEL`.
 */
export function checkVocabulary(metadata: ReadonlyMap<string, unknown>, cursor: GgufCursor): void {
  const tokens = metadata.get('tokenizer.ggml.tokens');
  for (const { key, kind, perToken } of ARRAYS) {
    const value = metadata.get(key);
    if (value === undefined) continue;
    if (!isOfKind(value, kind)) throw cursor.invalid(`${key} does not hold ${kind}`);
    if (!perToken) continue;
    const tokenCount = Array.isArray(tokens) ? tokens.length : 0;
    if (value.length !== tokenCount) throw cursor.invalid(`${key} has ${value.length} elements for ${tokenCount} tokens`);
  }
  if (Array.isArray(tokens)) refuseDuplicates(tokens, cursor);
}

function refuseDuplicates(tokens: readonly string[], cursor: GgufCursor): void {
  const seen = new Set<string>();
  tokens.forEach((token, id) => {
    // As libllama sees them: texts end at a null byte, and one without text gets a name.
    const text = token.includes('\0') ? token.slice(0, token.indexOf('\0')) : token;
    const name = text === '' ? `[EMPTY_${id}]` : text;
    if (seen.has(name)) throw cursor.invalid(`its vocabulary has the token ${JSON.stringify(name)} twice`);
    seen.add(name);
  });
}

function isOfKind(value: unknown, kind: Kind): value is { length: number } {
  if (kind === 'texts') return Array.isArray(value) && value.every((item) => typeof item === 'string');
  if (kind === 'bytes') return value instanceof Uint8Array || value instanceof Int8Array;
  return value instanceof Int32Array || value instanceof Float32Array;
}
