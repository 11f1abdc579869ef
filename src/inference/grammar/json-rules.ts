import { type Alternatives, escapeCode, literal, type Part } from './grammar-parts.js';
import type { GrammarRules } from './grammar-rules.js';
import { namesIn } from './rule-graph.js';

/**
 * Rules for what JSON itself has. White space is optional and bounded: a model that may write it without end sometimes does.
 * Numbers are bounded so that they stay exact: 15 digits, exponents of two.
 */
const JSON_RULES: Readonly<Record<string, Alternatives>> = {
  space: [[], ['" "'], ['"\\n"', '" "{0,16}']],
  'plain-character': [['[^"\\\\\\x00-\\x1F\\x7F]']],
  character: [['plain-character'], ['"\\\\"', '["\\\\/bfnrt]'], ['"\\\\u"', 'code-unit']],
  // No halves of a character: its length would be counted wrong.
  'code-unit': [
    ['[0-9a-cefA-CEF]', '[0-9a-fA-F]{3}'],
    ['[dD]', '[0-7]', '[0-9a-fA-F]{2}'],
  ],
  string: [['"\\""', 'character*', '"\\""']],
  integer: [['"-"?', 'whole']],
  number: [['"-"?', 'whole', 'fraction?', 'exponent?']],
  whole: [['"0"'], ['[1-9]', '[0-9]{0,14}']],
  fraction: [['"."', '[0-9]{1,15}']],
  exponent: [['[eE]', '[-+]?', '[0-9]{1,2}']],
  boolean: [['"true"'], ['"false"']],
  null: [['"null"']],
  object: [['"{"', 'space', 'members', 'space', '"}"']],
  members: [[], ['member', 'further-member*']],
  member: [['string', '":"', 'space', 'value']],
  'further-member': [['","', 'space', 'member']],
  array: [['"["', 'space', 'items', 'space', '"]"']],
  items: [[], ['value', 'further-item*']],
  'further-item': [['","', 'space', 'value']],
  value: [['object'], ['array'], ['string'], ['number'], ['boolean'], ['null']],
};

/** The rule for a kind of JSON value, and what it needs. */
export function addJsonRule(rules: GrammarRules, name: string): Part {
  const alternatives = JSON_RULES[name];
  if (!alternatives || rules.has(name)) return name;
  rules.add(alternatives, name);
  for (const needed of alternatives.flatMap(namesIn)) addJsonRule(rules, needed);
  return name;
}

/**
 * A rule for a quoted key other than these: it follows them character by character, as long as the key begins like one. It
 * writes nothing with a backslash, so that no key comes in by another spelling. Throws `INVALID_INPUT` when the keys begin in too
 * many ways: each needs a rule.
 */
export function addOtherKey(rules: GrammarRules, keys: readonly string[]): Part {
  const plain = keys.filter((key) => JSON.stringify(key) === `"${key}"`);
  const character = addJsonRule(rules, 'plain-character');
  const names = new Map<KeyBeginning, Part>();
  // The longer a beginning, the later it was made: each finds the rules of those behind it.
  for (const beginning of beginningsOf(rules, plain).reverse()) {
    const firsts = [...beginning.next.keys()];
    const branches = [...beginning.next].map(([first, behind]) => [literal(first), names.get(behind) as Part]);
    const another = [`[^"\\\\\\x00-\\x1F\\x7F${firsts.map(escapeCode).join('')}]`, `${character}*`];
    names.set(beginning, rules.add([...branches, another, ...(beginning.isKey ? [] : [[]])]));
  }
  const [rest] = [...names.values()].slice(-1);
  return rules.addKeysExcept(plain, [['"\\""', rest as Part, '"\\""']]);
}

/** What some keys begin with. */
interface KeyBeginning {
  /** One character longer, by that character. */
  readonly next: Map<string, KeyBeginning>;
  isKey: boolean;
}

/** All that keys begin with, the empty beginning first and each behind those that it begins with. */
function beginningsOf(rules: GrammarRules, keys: readonly string[]): KeyBeginning[] {
  const beginnings: KeyBeginning[] = [{ next: new Map(), isKey: false }];
  for (const key of keys) {
    let at = beginnings[0] as KeyBeginning;
    for (const character of key) {
      const next = at.next.get(character) ?? { next: new Map(), isKey: false };
      if (!at.next.has(character)) rules.reserve(beginnings.push(next));
      at.next.set(character, next);
      at = next;
    }
    at.isKey = true;
  }
  return beginnings;
}
