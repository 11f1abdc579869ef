const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENING = new Set([0x5b, 0x7b]);
const CLOSING = new Set([0x5d, 0x7d]);

/** Deepest body of a request: deeper than any request of the API and any sensible JSON schema in one. */
export const MAX_JSON_DEPTH = 128;

/**
 * How deep arrays and objects lie in each other in a JSON text, counted without parsing it: code that walks through a value
 * would run out of stack on one that is nested a million times. The text need not be valid.
 */
export function jsonDepth(bytes: Uint8Array): number {
  let depth = 0;
  let deepest = 0;
  let inString = false;
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index]!;
    if (inString && byte === BACKSLASH) index++;
    else if (byte === QUOTE) inString = !inString;
    else if (inString) continue;
    else if (OPENING.has(byte)) deepest = Math.max(deepest, ++depth);
    else if (CLOSING.has(byte)) depth--;
  }
  return deepest;
}
