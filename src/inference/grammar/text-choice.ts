import { type Alternatives, literal } from './grammar-parts.js';

/**
 * Texts as alternatives that each begin with another character: those that begin alike share their beginning and, in a rule, what
 * may come behind it. `add` gives equal rests the same rule, so the numbers from 10,000 to 20,000 need five.
 */
export function textChoice(texts: readonly string[], add: (alternatives: Alternatives) => string, from = 0): Alternatives {
  const groups = new Map<number | undefined, string[]>();
  for (const text of texts) {
    const character = text.codePointAt(from);
    const group = groups.get(character);
    if (group) group.push(text);
    else groups.set(character, [text]);
  }
  return [...groups.values()].map((group) => {
    const [first = '', ...others] = group;
    if (others.length === 0) return first.length > from ? [literal(first.slice(from))] : [];
    const shared = sharedEnd(group, from);
    return [literal(first.slice(from, shared)), add(textChoice(group, add, shared))];
  });
}

/** Where texts that share a character at `from` begin to differ; never inside of a character. */
function sharedEnd([first = '', ...others]: readonly string[], from: number): number {
  let end = from;
  for (const character of first.slice(from)) {
    if (!others.every((other) => other.startsWith(character, end))) break;
    end += character.length;
  }
  return end;
}
