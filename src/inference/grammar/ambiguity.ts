import { CartridgesError } from '../../core/errors.js';
import { type Alternatives, atomOf, type Part, type Range } from './grammar-parts.js';
import { namesIn } from './rule-graph.js';
import { tooLarge } from './schema-reader.js';

/**
 * Ways through a grammar that fit a text so far. libllama follows them one by one, compares each new one with all of them, and does
 * that for each character of a token.
 */
const MAX_WAYS = 250;
/** The same where rules contain themselves: each way is a stack of all levels, so it costs more the deeper a text goes. */
const MAX_RECURSIVE_WAYS = 100;
/** Ways that all rules begin in, all together: libllama walks through them when it reads a grammar. */
const MAX_ALL_BEGINNINGS = 100_000;

/** What the check needs of the rules. */
export interface CheckedRules {
  get(name: string): Alternatives;
  /** Where in the schema a rule comes from, when that is known. */
  pathOf(name: string): string | undefined;
  /** The keys that a rule of keys leaves out. */
  excludedKeysOf(name: string): ReadonlySet<string> | undefined;
}

/** What the texts of a sequence can begin with: a text, or one of some characters. */
interface Start {
  readonly text?: string;
  readonly ranges: readonly Range[];
  /** It is a quoted key, but none of these. */
  readonly excludedKeys?: ReadonlySet<string>;
}

/** How a sequence or a rule can begin; `isOptional` when it may be empty. */
interface Starts {
  readonly starts: readonly Start[];
  readonly isOptional: boolean;
}

/** What a text of a rule or a sequence costs at most. */
interface Cost {
  /** Ways that fit the text so far. */
  readonly ways: number;
  /** How deep brackets are nested; infinite where a rule contains itself. */
  readonly nesting: number;
}

/** The cost of alternatives that begin alike. */
interface GroupCost extends Cost {
  /** Ways that come on top of those of everything else in the rules that contain themselves. */
  readonly waysBeside: number;
  readonly leadsBack: boolean;
}

/**
 * Throws `INVALID_INPUT` for rules, given in strongly connected components from the inside out, of which a text can be followed in
 * too many ways at once. Alternatives that begin alike are followed together, so their ways add up. Where a rule reaches itself
 * through two of them, they would add up once more for each level of the text, without end.
 */
export function checkAmbiguity(components: readonly string[][], rules: CheckedRules): void {
  const check = new AmbiguityCheck(rules);
  for (const component of components) check.add(component);
}

class AmbiguityCheck {
  readonly #rules: CheckedRules;
  readonly #starts = new Map<string, Starts>();
  readonly #costs = new Map<string, Cost>();
  #beginnings = 0;

  constructor(rules: CheckedRules) {
    this.#rules = rules;
  }

  add(component: readonly string[]): void {
    const members = new Set(component);
    const beginnings = component.map((name) => this.#startsOf(name).starts.length);
    this.#beginnings += beginnings.reduce((sum, each) => sum + each, 0);
    if (this.#beginnings > MAX_ALL_BEGINNINGS) throw tooManyBeginnings();
    const groups = component.flatMap((name) =>
      this.#alike(this.#rules.get(name)).map((group) => this.#costOfGroup(group, members, name)),
    );
    const beside = groups.reduce((sum, group) => sum + group.waysBeside, 0);
    const ways = beside + Math.max(...beginnings, ...groups.map((group) => group.ways));
    const most = groups.some((group) => group.leadsBack) ? MAX_RECURSIVE_WAYS : MAX_WAYS;
    if (ways > most) throw tooManyWays(this.#pathOf(component), most);
    const nesting = Math.max(...groups.map((group) => group.nesting));
    for (const name of component) this.#costs.set(name, { ways, nesting });
  }

  /** Of alternatives of a rule that begin alike. */
  #costOfGroup(group: readonly (readonly Part[])[], members: ReadonlySet<string>, name: string): GroupCost {
    const isBack = group.map((parts) => namesIn(parts).some((each) => members.has(each)));
    const costs = group.map((parts) => this.#costOf(parts, members));
    const others = costs.filter((_, index) => !isBack[index]);
    const together = others.reduce((sum, other) => sum + other.ways, 0);
    const nesting = Math.max(...others.map((other) => other.nesting), 0);
    const backs = costs.length - others.length;
    if (backs === 0) return { ways: together, waysBeside: 0, nesting, leadsBack: false };
    if (backs > 1 || nesting === Number.POSITIVE_INFINITY) throw ambiguous(this.#pathOf([name, ...members]));
    // Those that do not lead back follow the text beside the one that does, from each of its levels until their brackets end.
    const waysBeside = others.reduce((sum, other) => sum + other.ways * (1 + other.nesting), 0);
    return { ways: costs[isBack.indexOf(true)]?.ways ?? 1, waysBeside, nesting: Number.POSITIVE_INFINITY, leadsBack: true };
  }

  /** Of a sequence, without the rules that are being looked at. */
  #costOf(parts: readonly Part[], members: ReadonlySet<string>): Cost {
    let ways = 1;
    let [brackets, nesting] = [0, 0];
    for (const [index, part] of parts.entries()) {
      ways = Math.max(ways, this.#startsOfSequence(parts.slice(index)).starts.length);
      const { rule, text } = atomOf(part);
      brackets += text?.match(/[[{]/g)?.length ?? 0;
      if (rule === undefined || members.has(rule)) continue;
      const cost = this.#costs.get(rule) as Cost;
      ways = Math.max(ways, cost.ways);
      nesting = Math.max(nesting, cost.nesting);
    }
    return { ways, nesting: nesting + brackets };
  }

  #startsOf(name: string): Starts {
    const known = this.#starts.get(name);
    if (known) return known;
    const excludedKeys = this.#rules.excludedKeysOf(name);
    const found: Starts = excludedKeys
      ? { starts: [{ ranges: rangesOf('"'), excludedKeys }], isOptional: false }
      : this.#startsOfAlternatives(name);
    this.#starts.set(name, found);
    return found;
  }

  #startsOfAlternatives(name: string): Starts {
    const starts: Start[] = [];
    let isOptional = false;
    for (const parts of this.#rules.get(name)) {
      const found = this.#startsOfSequence(parts);
      for (const start of found.starts) starts.push(start);
      isOptional ||= found.isOptional;
      if (starts.length > MAX_WAYS) throw tooManyWays(this.#pathOf([name]), MAX_WAYS);
    }
    return { starts, isOptional };
  }

  #startsOfSequence(parts: readonly Part[]): Starts {
    const starts: Start[] = [];
    for (const part of parts) {
      const { text, ranges, rule, isOptional } = atomOf(part);
      const found = rule === undefined ? undefined : this.#startsOf(rule);
      if (found) for (const start of found.starts) starts.push(start);
      else if (text !== '') starts.push(text === undefined ? { ranges: ranges ?? [] } : { text, ranges: rangesOf(text) });
      if (!isOptional && !found?.isOptional && text !== '') return { starts, isOptional: false };
    }
    return { starts, isOptional: true };
  }

  /** The alternatives in groups: those of different groups differ in what they begin with. */
  #alike(alternatives: Alternatives): (readonly Part[])[][] {
    const groups: { starts: Start[]; sequences: (readonly Part[])[] }[] = [];
    for (const parts of alternatives) {
      const starts = [...this.#startsOfSequence(parts).starts];
      const sequences = [parts];
      for (let index = groups.length - 1; index >= 0; index--) {
        const group = groups[index] as (typeof groups)[number];
        if (!starts.some((start) => group.starts.some((other) => beginAlike(start, other)))) continue;
        groups.splice(index, 1);
        starts.push(...group.starts);
        sequences.push(...group.sequences);
      }
      groups.push({ starts, sequences });
    }
    return groups.map(({ sequences }) => sequences);
  }

  /** The first path that is known. */
  #pathOf(names: readonly string[]): string {
    return names.map((name) => this.#rules.pathOf(name)).find((path) => path !== undefined) ?? '#';
  }
}

function rangesOf(text: string): Range[] {
  const first = text.codePointAt(0) as number;
  return [[first, first]];
}

/** Whether a text can begin in both ways, so that it does not tell one from the other. */
function beginAlike(a: Start, b: Start): boolean {
  if (a.text !== undefined && b.text !== undefined) return a.text.startsWith(b.text) || b.text.startsWith(a.text);
  if (leavesOut(a, b) || leavesOut(b, a)) return false;
  return a.ranges.some((one) => b.ranges.some((other) => one[0] <= other[1] && other[0] <= one[1]));
}

function leavesOut({ excludedKeys }: Start, { text }: Start): boolean {
  const quoted = excludedKeys && text?.match(/^"(?:[^"\\]|\\.)*"/)?.[0];
  return quoted !== undefined && (quoted.includes('\\') || (excludedKeys?.has(quoted.slice(1, -1)) ?? false));
}

function ambiguous(path: string): CartridgesError {
  const message = `the schema cannot be used: ${path} has alternatives which begin alike and contain themselves`;
  return new CartridgesError('INVALID_INPUT', message, {
    hint: 'give each alternative a first property that tells it from the others, such as a required "type" with a const of its own',
  });
}

function tooManyWays(path: string, most: number): CartridgesError {
  return tooLarge(`texts of ${path} can be followed in more than ${most} ways at once`);
}

function tooManyBeginnings(): CartridgesError {
  return tooLarge(`its rules begin in more than ${MAX_ALL_BEGINNINGS} ways`);
}
