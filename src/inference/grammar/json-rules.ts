import { escapeCode, type GrammarRules, literal, type Part } from './grammar-rules.js';

/**
 * Rules for what JSON itself has. White space is optional and bounded: a model that may write it without end sometimes does.
 * Numbers are bounded so that they stay exact: 15 digits, exponents of two.
 */
const JSON_RULES: Readonly<Record<string, readonly (readonly Part[])[]>> = {
  space: [[], ['" "'], ['"\\n"', '" "{0,16}']],
  'plain-character': [['[^"\\\\\\x00-\\x1F\\x7F]']],
  character: [['plain-character'], ['"\\\\"', '["\\\\/bfnrt]'], ['"\\\\u"', 'code-unit']],
  // No halves of a character: its length would be counted wrong.
  'code-unit': [
    ['[0-9a-cefA-CEF]', '[0-9a-fA-F]{3}'],
    ['[dD]', '[0-7]', '[0-9a-fA-F]{2}'],
  ],
  string: [['"\\""', 'character*', '"\\""']],
  integer: [['"-"?', '("0" | [1-9] [0-9]{0,14})']],
  number: [['"-"?', '("0" | [1-9] [0-9]{0,14})', '("." [0-9]{1,15})?', '([eE] [-+]? [0-9]{1,2})?']],
  boolean: [['"true"'], ['"false"']],
  null: [['"null"']],
  member: [['string', '":"', 'space', 'value']],
  object: [['"{"', 'space', '(member ("," space member)*)?', 'space', '"}"']],
  array: [['"["', 'space', '(value ("," space value)*)?', 'space', '"]"']],
  value: [['object'], ['array'], ['string'], ['number'], ['boolean'], ['null']],
};

/** The rule for a kind of JSON value, and what it needs. */
export function addJsonRule(rules: GrammarRules, name: string): Part {
  const alternatives = JSON_RULES[name];
  if (!alternatives || rules.has(name)) return name;
  rules.add(alternatives, name);
  for (const word of alternatives.flat().flatMap((part) => part.match(/[a-z][a-z-]*/g) ?? [])) addJsonRule(rules, word);
  return name;
}

/**
 * A rule for a quoted key other than these: it follows them character by character, as long as the key begins like one. It
 * writes nothing with a backslash, so that no key comes in by another spelling.
 */
export function addOtherKey(rules: GrammarRules, keys: readonly string[]): Part {
  const character = addJsonRule(rules, 'plain-character');
  const rest = (known: readonly string[][]): Part => {
    const firsts = [...new Set(known.flatMap(([first]) => first ?? []))];
    const branches = firsts.map((first) => {
      const behind = known.filter((key) => key[0] === first).map((key) => key.slice(1));
      return [literal(first), rest(behind)];
    });
    const another = [`[^"\\\\\\x00-\\x1F\\x7F${firsts.map(escapeCode).join('')}]`, `${character}*`];
    const ends = known.some((key) => key.length === 0) ? [] : [[]];
    return rules.add([...branches, another, ...ends]);
  };
  const quote = '"\\""';
  const plain = keys.filter((key) => JSON.stringify(key) === `"${key}"`);
  return rules.add([[quote, rest(plain.map((key) => [...key])), quote]]);
}
