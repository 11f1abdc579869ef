/** Characters that take two columns of a terminal: East Asian ones and emoji. */
const WIDE =
  /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Emoji_Presentation}\u3000-\u303f\uff01-\uff60]/u;
/** Characters that take none: accents on the one before, and joiners. */
const NARROW = /[\p{Mn}\p{Me}\p{Cf}]/u;

/** Columns that a line takes on a terminal. */
export function textWidth(line: string): number {
  let width = 0;
  for (const character of line) width += WIDE.test(character) ? 2 : NARROW.test(character) ? 0 : 1;
  return width;
}

/** Lines of at most `width` columns, broken between words; a word that is longer is cut. `width` is at least 2. */
export function wrapText(text: string, width: number): string[] {
  return text
    .replaceAll('\t', '    ')
    .split('\n')
    .flatMap((line) => wrapLine(line, width));
}

function wrapLine(line: string, width: number): string[] {
  const lines: string[] = [];
  let current = '';
  for (const word of line.match(/\s*\S+/g) ?? []) {
    if (textWidth(current + word) <= width) {
      current += word;
      continue;
    }
    if (current !== '') lines.push(current);
    const pieces = cut(word.trimStart(), width);
    current = pieces.pop() ?? '';
    lines.push(...pieces);
  }
  return [...lines, current];
}

function cut(word: string, width: number): string[] {
  const pieces: string[] = [];
  let piece = '';
  for (const character of word) {
    if (textWidth(piece + character) > width) {
      pieces.push(piece);
      piece = '';
    }
    piece += character;
  }
  return [...pieces, piece];
}
