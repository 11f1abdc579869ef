import { CartridgesError } from '../../core/errors.js';
import { checkAmbiguity } from './ambiguity.js';
import { FirstCharacters } from './first-characters.js';
import type { Alternatives } from './grammar-parts.js';
import { LeftFactoring } from './left-factoring.js';
import { componentsOf } from './rule-graph.js';
import { tooLarge } from './schema-reader.js';

const MAX_RULES = 2000;
const MAX_BYTES = 128 * 1024;

/** Rules of a grammar, in the order of their names' making. */
export class GrammarRules {
  readonly #rules = new Map<string, Alternatives>();
  /** Names by what the rule says, of those whose name was not given. */
  readonly #equals = new Map<string, string>();
  /** Where in the schema a rule comes from, of those that messages may name. */
  readonly #paths = new Map<string, string>();
  readonly #choices = new Set<string>();
  /** Of rules for keys: which keys they leave out. */
  readonly #excludedKeys = new Map<string, ReadonlySet<string>>();
  #bytes = 0;
  #names = 0;

  has(name: string): boolean {
    return this.#rules.has(name);
  }

  newName(path?: string): string {
    if (this.#names >= MAX_RULES) throw tooManyRules();
    const name = `rule-${this.#names++}`;
    if (path !== undefined) this.#paths.set(name, path);
    return name;
  }

  /** Throws `INVALID_INPUT` when so many rules cannot be added any more. */
  reserve(count: number): void {
    if (this.#names + count > MAX_RULES) throw tooManyRules();
  }

  /** Adds a rule of alternatives, each a sequence of parts; returns its name, or without a given one that of an equal rule. */
  add(alternatives: Alternatives, given?: string): string {
    const definition = line('', alternatives);
    const known = given === undefined ? this.#equals.get(definition) : undefined;
    if (known !== undefined) return known;
    const name = given ?? this.newName();
    this.#bytes += Buffer.byteLength(definition) + name.length;
    if (this.#bytes > MAX_BYTES) throw tooLong();
    this.#rules.set(name, alternatives);
    if (given === undefined) this.#equals.set(definition, name);
    return name;
  }

  /** Adds a rule that messages name by this place in the schema, unless an equal one has another. */
  addFrom(path: string, alternatives: Alternatives): string {
    const name = this.add(alternatives);
    if (!this.#paths.has(name)) this.#paths.set(name, path);
    return name;
  }

  /** Adds a rule whose alternatives may begin alike, such as a schema or a value each; returns its name. */
  addChoice(alternatives: Alternatives, path: string): string {
    const name = this.addFrom(path, alternatives);
    this.#choices.add(name);
    return name;
  }

  /** Adds a rule of quoted keys without these. */
  addKeysExcept(keys: readonly string[], alternatives: Alternatives): string {
    const name = this.add(alternatives);
    this.#excludedKeys.set(name, new Set(keys));
    return name;
  }

  /**
   * The grammar, with choices of which as few as possible begin alike. Throws `INVALID_INPUT` for rules that begin with
   * themselves, and for those that libllama would follow in too many ways at once.
   */
  print(root: string): string {
    const firsts = new FirstCharacters((name) => this.#get(name));
    const endless = firsts.findEndless([...this.#rules.keys()]);
    if (endless) throw definedByItself(endless.flatMap((name) => this.#paths.get(name) ?? []).at(-1));
    this.#factorChoices(firsts);
    const components = componentsOf(root, (name) => this.#get(name));
    checkAmbiguity(components, {
      get: (name) => this.#get(name),
      pathOf: (name) => this.#paths.get(name),
      excludedKeysOf: (name) => this.#excludedKeys.get(name),
    });
    const used = new Set(components.flat());
    const text = [...this.#rules].filter(([name]) => used.has(name)).map(([name, alternatives]) => line(name, alternatives));
    if (Buffer.byteLength(text.join('')) > MAX_BYTES) throw tooLong();
    return text.join('');
  }

  #factorChoices(firsts: FirstCharacters): void {
    const rules = {
      get: (name: string) => this.#get(name),
      set: (name: string, alternatives: Alternatives) => this.#rules.set(name, alternatives),
      add: (alternatives: Alternatives, choice: string) => {
        // Rests are factored in turn, so their length now is not that of the grammar.
        this.#bytes = 0;
        return this.addFrom(this.#paths.get(choice) as string, alternatives);
      },
    };
    new LeftFactoring(rules, firsts).factor(this.#choices);
  }

  #get(name: string): Alternatives {
    return this.#rules.get(name) ?? [];
  }
}

function line(name: string, alternatives: Alternatives): string {
  return `${name} ::= ${alternatives.map((parts) => (parts.length > 0 ? parts.join(' ') : '""')).join(' | ')}\n`;
}

function definedByItself(path = '#'): CartridgesError {
  return new CartridgesError('INVALID_INPUT', `the schema cannot be used: ${path} is defined by nothing but itself`);
}

function tooManyRules(): CartridgesError {
  return tooLarge(`it makes more than ${MAX_RULES} rules`);
}

function tooLong(): CartridgesError {
  return tooLarge(`its grammar is longer than ${MAX_BYTES} bytes`);
}
