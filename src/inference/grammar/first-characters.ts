import { type Alternatives, atomOf, mergeRanges, type Part, type Range } from './grammar-parts.js';

/** What texts begin with. */
export interface Beginning {
  /** Code points of the first character, in order. */
  readonly ranges: readonly Range[];
  /** The text may be empty. */
  readonly isOptional: boolean;
}

/** The first characters of the texts of rules. They are kept, and stay right while rules are written in another way. */
export class FirstCharacters {
  readonly #get: (name: string) => Alternatives;
  readonly #known = new Map<string, Beginning>();
  readonly #above = new Set<string>();

  constructor(get: (name: string) => Alternatives) {
    this.#get = get;
  }

  /** Names of rules, each of which begins with the next one and the last one with one of them, when a rule begins with itself. */
  findEndless(names: Iterable<string>): string[] | undefined {
    try {
      for (const name of names) this.ofRule(name);
    } catch (error) {
      if (error instanceof EndlessRule) return error.names;
      throw error;
    }
    return undefined;
  }

  ofRule(name: string): Beginning {
    const known = this.#known.get(name);
    if (known) return known;
    if (this.#above.has(name)) throw new EndlessRule([...this.#above]);
    this.#above.add(name);
    const ranges: Range[] = [];
    let isOptional = false;
    for (const parts of this.#get(name)) {
      const beginning = this.ofSequence(parts);
      ranges.push(...beginning.ranges);
      isOptional ||= beginning.isOptional;
    }
    this.#above.delete(name);
    const found = { ranges: mergeRanges(ranges), isOptional };
    this.#known.set(name, found);
    return found;
  }

  ofSequence(parts: Iterable<Part>): Beginning {
    const ranges: Range[] = [];
    for (const part of parts) {
      const beginning = this.ofPart(part);
      ranges.push(...beginning.ranges);
      if (!beginning.isOptional) return { ranges, isOptional: false };
    }
    return { ranges, isOptional: true };
  }

  ofPart(part: Part): Beginning {
    const { text, ranges, rule, isOptional } = atomOf(part);
    if (ranges) return { ranges, isOptional };
    if (rule !== undefined) {
      const beginning = this.ofRule(rule);
      return { ranges: beginning.ranges, isOptional: isOptional || beginning.isOptional };
    }
    const first = text?.codePointAt(0);
    return first === undefined ? { ranges: [], isOptional: true } : { ranges: [[first, first]], isOptional };
  }
}

class EndlessRule extends Error {
  readonly names: string[];

  constructor(names: string[]) {
    super('a rule begins with itself');
    this.names = names;
  }
}
