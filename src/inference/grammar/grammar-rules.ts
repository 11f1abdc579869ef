import { CartridgesError } from '../../core/errors.js';

/**
 * A part of a rule in GBNF: the name of another rule, or anything else. Everything that another rule stands in front of must
 * begin with a text of its own: libllama follows what a rule may begin with, and what it finds there must be finite and small.
 */
export type Part = string;

const MAX_RULES = 2000;
const MAX_BYTES = 128 * 1024;
/** Ways through the rules that others begin with, all together: libllama walks all of them when it reads a grammar. */
const MAX_BEGINNINGS = 200_000;

const RULE_NAME = /^[a-z][a-z0-9-]*$/;

/** Rules of a grammar, in the order of their names' making. */
export class GrammarRules {
  readonly #rules = new Map<string, readonly (readonly Part[])[]>();
  /** Where in the schema a rule comes from, of those that others may point to. */
  readonly #paths = new Map<string, string>();
  #bytes = 0;
  #names = 0;

  has(name: string): boolean {
    return this.#rules.has(name);
  }

  newName(path?: string): string {
    if (this.#names >= MAX_RULES) throw tooLarge(`it makes more than ${MAX_RULES} rules`);
    const name = `rule-${this.#names++}`;
    if (path !== undefined) this.#paths.set(name, path);
    return name;
  }

  /** Adds a rule of alternatives, each a sequence of parts; returns its name. */
  add(alternatives: readonly (readonly Part[])[], name = this.newName()): string {
    this.#rules.set(name, alternatives);
    this.#bytes += Buffer.byteLength(line(name, alternatives));
    if (this.#bytes > MAX_BYTES) throw tooLarge(`its grammar is longer than ${MAX_BYTES} bytes`);
    return name;
  }

  /** Throws `INVALID_INPUT` for rules that begin with themselves, or in too many ways. */
  toString(): string {
    const beginnings = new Map<string, number>();
    let total = 0;
    for (const name of this.#rules.keys()) total += this.#countBeginnings(name, beginnings, new Set());
    if (total > MAX_BEGINNINGS) throw tooLarge(`its alternatives begin in ${total} ways, more than ${MAX_BEGINNINGS}`);
    return [...this.#rules].map(([name, alternatives]) => line(name, alternatives)).join('');
  }

  #countBeginnings(name: string, known: Map<string, number>, above: Set<string>): number {
    const counted = known.get(name);
    if (counted !== undefined) return counted;
    if (above.has(name)) throw endless([...above].flatMap((each) => this.#paths.get(each) ?? []).at(-1));
    above.add(name);
    const firsts = (this.#rules.get(name) ?? []).map(([first]) => first);
    const ways = firsts.map((first) => (first && RULE_NAME.test(first) ? this.#countBeginnings(first, known, above) + 1 : 1));
    above.delete(name);
    const count = ways.reduce((sum, each) => sum + each, 0);
    known.set(name, count);
    return count;
  }
}

/** A text as GBNF writes it. */
export function literal(text: string): Part {
  return `"${text.replace(/["\\]/g, '\\$&').replace(/\p{Cc}/gu, escapeCode)}"`;
}

/** A character as GBNF writes it anywhere, also in a class. */
export function escapeCode(character: string): string {
  return `\\U${(character.codePointAt(0) as number).toString(16).toUpperCase().padStart(8, '0')}`;
}

function line(name: string, alternatives: readonly (readonly Part[])[]): string {
  return `${name} ::= ${alternatives.map((parts) => (parts.length > 0 ? parts.join(' ') : '""')).join(' | ')}\n`;
}

function endless(path = '#'): CartridgesError {
  return new CartridgesError('INVALID_INPUT', `the schema cannot be used: ${path} is defined by nothing but itself`);
}

function tooLarge(reason: string): CartridgesError {
  return new CartridgesError('INVALID_INPUT', `the schema is too large: ${reason}`, { hint: 'make it simpler, or split it' });
}
