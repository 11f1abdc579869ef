/**
 * A part of a rule in GBNF: a text, a class of characters or the name of another rule, and behind that how often it comes. There
 * are no parentheses, so that what a rule begins with can be read from its parts.
 */
export type Part = string;

/** What a rule may be, each a sequence of parts. */
export type Alternatives = readonly (readonly Part[])[];

/** Code points from the first to the last, both included. */
export type Range = readonly [first: number, last: number];

const LAST_CODE_POINT = 0x10ffff;
const RULE_NAME = /^[a-z][a-z0-9-]*/;
const CHARACTER = /\\U[0-9A-F]{8}|\\x[0-9A-F]{2}|\\.|[^\\]/gsu;

/** A text as GBNF writes it. */
export function literal(text: string): Part {
  return `"${text.replace(/["\\]/g, '\\$&').replace(/\p{Cc}/gu, escapeCode)}"`;
}

/** A character as GBNF writes it anywhere, also in a class. */
export function escapeCode(character: string): string {
  return `\\U${(character.codePointAt(0) as number).toString(16).toUpperCase().padStart(8, '0')}`;
}

/** What a part is without how often it comes. */
export interface Atom {
  readonly text?: string;
  readonly ranges?: readonly Range[];
  readonly rule?: string;
  /** It comes exactly once. */
  readonly isSingle: boolean;
  /** It may be left out. */
  readonly isOptional: boolean;
}

export function atomOf(part: Part): Atom {
  // How often a part comes is written without quotes and brackets.
  const end = part.startsWith('"') ? part.lastIndexOf('"') : part.startsWith('[') ? part.lastIndexOf(']') : undefined;
  const atom = end === undefined ? (RULE_NAME.exec(part)?.[0] ?? '') : part.slice(0, end + 1);
  const count = part.slice(atom.length);
  const how = { isSingle: count === '', isOptional: /^(\?|\*|\{0[,}])/.test(count) };
  if (end === undefined) return { rule: atom, ...how };
  return part.startsWith('"') ? { text: textOf(atom), ...how } : { ranges: rangesOf(atom), ...how };
}

function textOf(atom: Part): string {
  return atom.slice(1, -1).replace(/\\(U[0-9A-F]{8}|.)/gs, (code) => String.fromCodePoint(codePointOf(code)));
}

function rangesOf(atom: Part): Range[] {
  const isNegative = atom.startsWith('[^');
  const codes = atom.slice(isNegative ? 2 : 1, -1).match(CHARACTER) ?? [];
  const ranges: Range[] = [];
  for (let i = 0; i < codes.length; i++) {
    const first = codePointOf(codes[i] as string);
    const isRange = codes[i + 1] === '-' && i + 2 < codes.length;
    ranges.push([first, isRange ? codePointOf(codes[i + 2] as string) : first]);
    if (isRange) i += 2;
  }
  return isNegative ? othersThan(ranges) : ranges;
}

function codePointOf(code: string): number {
  if (/^\\[Ux]../.test(code)) return Number.parseInt(code.slice(2), 16);
  if (code.startsWith('\\')) return ({ n: '\n', r: '\r', t: '\t' }[code.slice(1)] ?? code.slice(1)).codePointAt(0) as number;
  return code.codePointAt(0) as number;
}

function othersThan(ranges: readonly Range[]): Range[] {
  const others: Range[] = [];
  let next = 0;
  for (const [first, last] of mergeRanges(ranges)) {
    if (first > next) others.push([next, first - 1]);
    next = last + 1;
  }
  if (next <= LAST_CODE_POINT) others.push([next, LAST_CODE_POINT]);
  return others;
}

/** The same code points in as few ranges as there can be, in order. */
export function mergeRanges(ranges: readonly Range[]): Range[] {
  const merged: [number, number][] = [];
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const before = merged.at(-1);
    if (before && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else merged.push([first, last]);
  }
  return merged;
}
