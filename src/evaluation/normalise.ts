/** Text as answers are compared: NFKC, lower case, white space folded, punctuation at both ends of every word dropped. */
export function normalise(text: string): string {
  return text
    .normalize('NFKC')
    .toLowerCase()
    .normalize('NFKC')
    .split(/\s+/)
    .map(withoutOuterPunctuation)
    .filter((word) => word !== '')
    .join(' ');
}

/**
 * Whether `part` occurs in `text` as whole words, both normalised. A number inside a longer one is no word of its own: "840" is
 * not in "1,840".
 */
export function containsAtWordBorders(text: string, part: string): boolean {
  if (part === '') return false;
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + 1)) {
    const before = text.slice(Math.max(0, at - 4), at);
    const after = text.slice(at + part.length, at + part.length + 4);
    if (!continuesBefore(before, part) && !continuesAfter(after, part)) return true;
  }
  return false;
}

function withoutOuterPunctuation(word: string): string {
  const characters = Array.from(word);
  const isKept = (character: string) => !/\p{P}/u.test(character);
  const first = characters.findIndex(isKept);
  return first < 0 ? '' : characters.slice(first, characters.findLastIndex(isKept) + 1).join('');
}

function continuesBefore(before: string, part: string): boolean {
  return /[\p{L}\p{N}\p{M}_]$/u.test(before)
    ? /^[\p{L}\p{N}\p{M}_]/u.test(part)
    : /\p{N}[.,]$/u.test(before) && /^\p{N}/u.test(part);
}

function continuesAfter(after: string, part: string): boolean {
  return /^[\p{L}\p{N}\p{M}_]/u.test(after)
    ? /[\p{L}\p{N}\p{M}_]$/u.test(part)
    : /^[.,]\p{N}/u.test(after) && /\p{N}$/u.test(part);
}
