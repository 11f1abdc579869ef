import { expect, it } from 'vitest';
import { FirstCharacters } from './first-characters.js';
import type { Alternatives } from './grammar-parts.js';
import { LeftFactoring } from './left-factoring.js';

/** Rules after the factoring of `choice`, with rests named in the order of their making. */
function factor(rules: Record<string, Alternatives>): Record<string, Alternatives> {
  const all = new Map(Object.entries(rules));
  const get = (name: string) => all.get(name) ?? [];
  const equals = new Map<string, string>();
  const add = (alternatives: Alternatives) => {
    const key = JSON.stringify(alternatives);
    const name = equals.get(key) ?? `rest-${equals.size}`;
    equals.set(key, name);
    if (!all.has(name)) all.set(name, alternatives);
    return name;
  };
  const set = (name: string, alternatives: Alternatives) => all.set(name, alternatives);
  new LeftFactoring({ get, set, add }, new FirstCharacters(get)).factor(['choice']);
  return Object.fromEntries([...all].filter(([name]) => name === 'choice' || name.startsWith('rest')));
}

it.each<[string, Record<string, Alternatives>, Record<string, Alternatives>]>([
  [
    'shares the beginning of texts',
    { choice: [['"left"'], ['"let"'], ['"right"'], ['"left"']] },
    { choice: [['"le"', 'rest-0'], ['"right"']], 'rest-0': [['"ft"'], ['"t"']] },
  ],
  ['does not cut characters of two code units', { choice: [['"🙂"'], ['"🙃"']] }, { choice: [['"🙂"'], ['"🙃"']] }],
  [
    'writes out rules that begin alike, and no others',
    {
      choice: [['one'], ['two'], ['three']],
      one: [['"["', 'four', '"1"']],
      two: [['"["', 'four', '"2"']],
      three: [['"{"']],
      four: [['"x"']],
    },
    { choice: [['"["', 'four', 'rest-0'], ['three']], 'rest-0': [['"1"'], ['"2"']] },
  ],
  [
    'keeps an alternative that ends where another goes on',
    { choice: [['four', 'five'], ['four']], four: [['"x"']], five: [['"y"']] },
    { choice: [['four', 'rest-0']], 'rest-0': [['five'], []] },
  ],
  [
    'ends at parts that come several times',
    { choice: [['[a-z]{0,5}', '"."'], ['[a-z]*', '"."'], ['"1"']] },
    { choice: [['[a-z]{0,5}', '"."'], ['[a-z]*', '"."'], ['"1"']] },
  ],
  [
    'is done with a choice that contains itself',
    { choice: [['one'], ['two']], one: [['"["', 'choice', '"]"']], two: [['"["', '"]"']] },
    { choice: [['"["', 'rest-0']], 'rest-0': [['choice', '"]"'], ['"]"']] },
  ],
])('%s', (_, rules, factored) => expect(factor(rules)).toEqual(factored));

it('ends for rules that begin alike without end', () => {
  const one = [['"["', 'one', '"]"'], ['"x"']];
  const two = [['"["', 'two', '"]"'], ['"y"']];
  const rules = factor({
    choice: [
      ['one', '"1"'],
      ['two', '"2"'],
    ],
    one,
    two,
  });
  expect(Object.keys(rules).length).toBeGreaterThan(10);
  expect(Object.keys(rules).length).toBeLessThan(200);
});
