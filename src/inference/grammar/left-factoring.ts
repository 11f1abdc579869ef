import type { FirstCharacters } from './first-characters.js';
import { type Alternatives, atomOf, literal, mergeRanges, type Part, type Range } from './grammar-parts.js';
import { textChoice } from './text-choice.js';

/** A character of a text, or a part that is no text: names of rules, as all those parts, have more characters. */
type Symbol = string;

/** How often rules are written out for each other along one text. Two that contain themselves may begin alike without end. */
const MAX_INLINING_DEPTH = 64;
/** Characters and parts of rules that are written out, all together: they cost time, and the grammar becomes longer. */
const MAX_INLINED_SYMBOLS = 50_000;

/** What the factoring needs of the rules. */
export interface FactoredRules {
  get(name: string): Alternatives;
  set(name: string, alternatives: Alternatives): void;
  /** A rule for what comes behind the shared beginning of alternatives of a choice, or an equal one that is there already. */
  add(alternatives: Alternatives, choice: string): string;
}

/**
 * Writes alternatives so that those which begin alike share their beginning, character by character: `"left" | "let"` becomes
 * `"le" rest`, and so on with the rest. libllama follows all alternatives at once that fit so far, and those of each level of a
 * recursion once more for each of the levels above, so alternatives which begin alike and contain themselves would take time
 * without end.
 */
export class LeftFactoring {
  readonly #rules: FactoredRules;
  readonly #firsts: FirstCharacters;
  /** How often rules were written out on the way to a choice, of all that were met. */
  readonly #depths = new Map<string, number>();
  #inlinedSymbols = 0;

  constructor(rules: FactoredRules, firsts: FirstCharacters) {
    this.#rules = rules;
    this.#firsts = firsts;
  }

  /** Gives these rules, and those that it makes, alternatives of which, within the limits above, each begins with other characters. */
  factor(choices: Iterable<string>): void {
    const waiting = [...choices];
    for (const name of waiting) this.#depths.set(name, 0);
    // A rest comes behind its choice, so where it begins with that choice, it finds it factored, and one recursion is enough.
    for (const name of waiting) {
      const { depth, groups } = this.#separate(this.#rules.get(name), this.#depths.get(name) as number);
      const rests = groups.map((group) => this.#pullOut(group, name));
      this.#rules.set(
        name,
        rests.map(({ alternative }) => alternative),
      );
      for (const { rest } of rests) {
        if (rest === undefined || this.#depths.has(rest)) continue;
        this.#depths.set(rest, depth);
        waiting.push(rest);
      }
    }
  }

  /** Alternatives in groups of the same head, with rules written out as long as groups begin alike. */
  #separate(alternatives: Alternatives, above: number): { depth: number; groups: Symbol[][][] } {
    let groups = groupByHead(distinct(alternatives.map(symbolsOf)));
    let depth = above;
    for (; depth < MAX_INLINING_DEPTH; depth++) {
      let isInlined = false;
      const sequences = this.#overlapping(groups).flatMap((alike) => {
        const inlined = alike.length > 1 ? this.#inlineHeads(alike.flat()) : undefined;
        isInlined ||= inlined !== undefined;
        return inlined ?? alike.flat();
      });
      if (!isInlined) break;
      groups = groupByHead(distinct(sequences));
    }
    return { depth, groups };
  }

  /** One sequence for several with the same head, and the rule of their rests. */
  #pullOut(group: Symbol[][], choice: string): { alternative: Part[]; rest?: string } {
    const [first = [], ...others] = group;
    if (others.length === 0) return { alternative: partsOf(first) };
    if (group.every((sequence) => sequence.every(isCharacter))) {
      const texts = group.map((sequence) => sequence.join(''));
      return { alternative: textChoice(texts, (rest) => this.#rules.add(rest, choice)).flat() };
    }
    const shared = sharedLength(group);
    const rest = this.#rules.add(
      group.map((sequence) => partsOf(sequence.slice(shared))),
      choice,
    );
    return { alternative: [...partsOf(first.slice(0, shared)), rest], rest };
  }

  /** The sequences with rules that they begin with written out; none when there are no such rules, or too much was written out. */
  #inlineHeads(sequences: readonly Symbol[][]): Symbol[][] | undefined {
    if (!sequences.some(([head]) => isRule(head))) return undefined;
    const inlined = sequences.flatMap((sequence) => {
      const [head, ...rest] = sequence;
      if (!isRule(head)) return [sequence];
      if (this.#inlinedSymbols > MAX_INLINED_SYMBOLS) return [sequence];
      const written = this.#rules.get(head).map((parts) => [...symbolsOf(parts), ...rest]);
      this.#inlinedSymbols += written.reduce((sum, each) => sum + each.length, 0);
      return written;
    });
    return this.#inlinedSymbols > MAX_INLINED_SYMBOLS ? undefined : distinct(inlined);
  }

  /** Groups together where one begins with a character that another begins with. */
  #overlapping(groups: readonly Symbol[][][]): Symbol[][][][] {
    const leaders = groups.map((_, index) => index);
    const leaderOf = (index: number): number => {
      let leader = index;
      while (leaders[leader] !== leader) leader = leaders[leader] as number;
      leaders[index] = leader;
      return leader;
    };
    const placed = groups.flatMap((group, index) => this.#beginnings(group).map((range) => ({ range, index })));
    let farthest = { last: -1, index: 0 };
    for (const { range, index } of placed.sort((a, b) => a.range[0] - b.range[0])) {
      if (range[0] <= farthest.last) leaders[leaderOf(index)] = leaderOf(farthest.index);
      if (range[1] > farthest.last) farthest = { last: range[1], index };
    }
    const together = new Map<number, Symbol[][][]>();
    for (const [index, group] of groups.entries()) append(together, leaderOf(index), group);
    return [...together.values()];
  }

  #beginnings(group: readonly Symbol[][]): readonly Range[] {
    const head = group[0]?.[0];
    if (head !== undefined && isCharacter(head)) return [[head.codePointAt(0) as number, head.codePointAt(0) as number]];
    return mergeRanges(group.flatMap((sequence) => this.#firsts.ofSequence(partsOf(sequence)).ranges));
  }
}

function symbolsOf(parts: readonly Part[]): Symbol[] {
  return parts.flatMap((part) => {
    const { text, isSingle } = atomOf(part);
    return text !== undefined && isSingle ? [...text] : [part];
  });
}

function partsOf(symbols: readonly Symbol[]): Part[] {
  const parts: Part[] = [];
  let text = '';
  const endText = () => {
    if (text !== '') parts.push(literal(text));
    text = '';
  };
  for (const symbol of symbols) {
    if (isCharacter(symbol)) {
      text += symbol;
      continue;
    }
    endText();
    parts.push(symbol);
  }
  endText();
  return parts;
}

function isCharacter(symbol: Symbol): boolean {
  return symbol.length === 1 || (symbol.length === 2 && (symbol.codePointAt(0) as number) > 0xffff);
}

function isRule(symbol: Symbol | undefined): symbol is Symbol {
  return symbol !== undefined && !isCharacter(symbol) && /^[a-z][a-z0-9-]*$/.test(symbol);
}

function groupByHead(sequences: readonly Symbol[][]): Symbol[][][] {
  const groups = new Map<Symbol, Symbol[][]>();
  for (const sequence of sequences) append(groups, sequence[0] ?? '', sequence);
  return [...groups.values()];
}

function append<Key, Value>(lists: Map<Key, Value[]>, key: Key, value: Value): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

function distinct(sequences: readonly Symbol[][]): Symbol[][] {
  return [...new Map(sequences.map((sequence) => [sequence.join('\0'), sequence])).values()];
}

/** How many symbols all sequences begin with. */
function sharedLength([first = [], ...others]: readonly Symbol[][]): number {
  let length = 0;
  while (length < first.length && others.every((other) => other[length] === first[length])) length++;
  return length;
}
