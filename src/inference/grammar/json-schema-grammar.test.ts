import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PocketGrammars } from '../../../test/support/pocket-grammars.js';
import { JSON_OBJECT_GRAMMAR, jsonSchemaToGrammar } from './json-schema-grammar.js';

let grammars: PocketGrammars;

beforeAll(async () => {
  grammars = await PocketGrammars.load();
});
afterAll(() => grammars.dispose());

const person = {
  type: 'object',
  properties: { name: { type: 'string', minLength: 1, maxLength: 5 }, age: { type: 'integer' }, mood: { enum: ['good', 'bad'] } },
  required: ['name', 'mood'],
  additionalProperties: false,
};
const tree = {
  $ref: '#/$defs/node',
  $defs: {
    node: {
      type: 'object',
      properties: { value: { type: 'number' }, children: { type: 'array', items: { $ref: '#/$defs/node' } } },
      required: ['value'],
    },
  },
};

describe.each<[string, unknown, string[], string[]]>([
  [
    'an object in the order of its schema',
    person,
    ['{"name": "Ada", "age": 36, "mood": "good"}', '{"name":"Ada","mood":"bad"}', '{\n  "name": "A",\n  "mood": "good"\n}'],
    ['{"mood":"good","name":"Ada"}', '{"name":"","mood":"good"}', '{"name":"Augusta","mood":"bad"}', '{"name":"Ada"}', '{}'],
  ],
  [
    'optional properties before and behind required ones',
    { properties: { a: { type: 'null' }, b: { type: 'null' }, c: { type: 'null' }, d: { type: 'null' } }, required: ['c'] },
    ['{"c":null}', '{"a":null,"c":null}', '{"b":null,"c":null,"d":null}', '{"a":null,"b":null,"c":null,"d":null}'],
    ['{"a":null}', '{"a":null,,"c":null}', '{"c":null,}', '{,"c":null}', '{"a":null"c":null}'],
  ],
  [
    'other properties of a kind, under other names',
    { type: 'object', properties: { ab: { type: 'integer' }, 'q"': true }, additionalProperties: { type: 'boolean' } },
    ['{}', '{"ab":1,"a":true,"abc":false,"":true}', '{"x":true}'],
    ['{"ab":true}', '{"x":1}', '{"x":true,"ab":false}', '{"q"":true}', '{"\\u0061b":true}'],
  ],
  [
    'a schema that contains itself',
    tree,
    ['{"value":1,"children":[{"value":-2.5e3}]}'],
    ['{"children":[]}', '{"value":01}', '[]'],
  ],
  [
    'a list with bounds',
    { type: 'array', items: { type: 'integer' }, minItems: 2, maxItems: 3 },
    ['[1,2]', '[1, 2, 3]'],
    ['[1]', '[1,2,3,4]', '[]'],
  ],
  ['an empty list', { type: 'array', items: { type: 'integer' }, maxItems: 0 }, ['[]'], ['[1]']],
  [
    'a tuple with more behind it',
    { prefixItems: [{ type: 'string' }, { type: 'null' }], items: { type: 'integer' }, minItems: 3 },
    ['["a",null,1]', '["a",null,1,2]'],
    ['["a",null]', '["a",1,1]'],
  ],
  [
    'several types',
    { type: ['string', 'null'], maxLength: 3 },
    ['null', '"abc"', '"\\u00e9"', '"é\\n"'],
    ['1', '"abcd"', '"\\ud83d"'],
  ],
  ['alternatives', { anyOf: [{ type: 'boolean' }, { const: 7 }] }, ['true', '7'], ['8', 'null']],
  ['values of the type that is named', { type: 'string', enum: [1, 'a\nb', null] }, ['"a\\nb"'], ['1', 'null']],
  [
    'what several schemas ask of an object',
    {
      allOf: [{ $ref: '#/$defs/a' }, { properties: { b: { type: 'integer' } }, required: ['b'] }],
      $defs: { a: { properties: { a: true } } },
    },
    ['{"a":[],"b":1}', '{"b":1}'],
    ['{"a":1}', '{}'],
  ],
  ['anything', true, ['{"a":[1,{"b":null}]}', '"x"', '-0.5'], ['', 'x', '1.']],
])('%s', (_, schema, allowed, refused) => {
  it.each(allowed)('allows %s', (text) => {
    expect(() => JSON.parse(text)).not.toThrow();
    expect(grammars.allows(jsonSchemaToGrammar(schema), text)).toBe(true);
  });
  it.each(refused)('refuses %s', (text) => expect(grammars.allows(jsonSchemaToGrammar(schema), text)).toBe(false));
});

it('allows any object and nothing else', () => {
  expect(grammars.allows(JSON_OBJECT_GRAMMAR, '{"a": [1, "b", {"c": null}]}')).toBe(true);
  for (const text of ['[]', '{"a": 1', '{"a" 1}', '{a: 1}', '{"a": 1} '])
    expect(grammars.allows(JSON_OBJECT_GRAMMAR, text)).toBe(false);
});

it('is the same for the same schema', () =>
  expect(jsonSchemaToGrammar(person)).toBe(jsonSchemaToGrammar(structuredClone(person))));

it.each<[unknown, string]>([
  [
    { type: 'object', properties: { 'a/b': { type: 'string', pattern: 'x+' } } },
    '#/properties/a~1b/pattern is not supported here',
  ],
  [{ type: 'string', format: 'date' }, '#/format is not supported'],
  [{ type: 'array', items: { minimum: 1, type: 'integer' } }, '#/items/minimum is not supported'],
  [{ type: 'array', uniqueItems: true }, '#/uniqueItems is not supported'],
  [{ type: 'object', properties: { a: { anyOf: [{ type: 'colour' }] } } }, '#/properties/a/anyOf/0/type is not a type'],
  [{ $ref: 'other.json' }, '#/$ref does not point into the same schema'],
  [{ $ref: '#/$defs/a' }, '#/$ref points to #/$defs/a, which is not there'],
  [{ $ref: '#/constructor' }, 'which is not there'],
  [{ $ref: '#' }, '# is defined by nothing but itself'],
  [
    { $ref: '#/$defs/a', $defs: { a: { anyOf: [{ type: 'null' }, { $ref: '#/$defs/a' }] } } },
    '#/$defs/a is defined by nothing but itself',
  ],
  [{ type: 'array', minItems: 3, maxItems: 2 }, 'has a largest length below its least one'],
  [{ type: 'string', maxLength: 1e9 }, '#/maxLength is not a whole number from 0 to 1000'],
  [{ enum: [] }, '#/enum is not a list with entries'],
  [{ type: 'null', enum: [1] }, '# has no value of its type'],
  [{ properties: { a: false } }, '#/properties/a is not a schema that a value can have'],
  [{ allOf: [{ properties: { a: true } }, { properties: { a: true } }] }, '#/allOf/1/properties/a is defined twice'],
  ['object', '# is not a schema'],
  [undefined, '# is not a schema'],
])('refuses %j by its path', (schema, message) => {
  expect(() => jsonSchemaToGrammar(schema)).toThrow(
    expect.objectContaining({ code: 'INVALID_INPUT', message: expect.stringContaining(message) }),
  );
});

describe('schemas that would take all memory or time', () => {
  const nested = (depth: number): unknown => (depth === 0 ? true : { type: 'array', items: nested(depth - 1) });
  const doubling = Object.fromEntries(
    Array.from({ length: 40 }, (_, i) => [
      `a${i}`,
      i === 39 ? { type: 'null' } : { anyOf: [{ $ref: `#/$defs/a${i + 1}` }, { $ref: `#/$defs/a${i + 1}` }] },
    ]),
  );
  const wide = Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`p${i}`, { type: 'null' }]));
  const long = Array.from({ length: 20 }, () => ({ type: 'string', maxLength: 1000 }));
  it.each<[string, unknown]>([
    ['deep', nested(100)],
    ['doubling', { $ref: '#/$defs/a0', $defs: doubling }],
    ['wide', { properties: wide }],
    ['long', { prefixItems: long }],
    ['large', { enum: ['x'.repeat(200_000)] }],
  ])('refuses a %s one', (_, schema) => {
    expect(() => jsonSchemaToGrammar(schema)).toThrow(expect.objectContaining({ code: 'INVALID_INPUT' }));
  });

  it('reads the largest that it makes in a moment', () => {
    const properties = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`property ${i}`, { type: ['string', 'null'] }]));
    const grammar = jsonSchemaToGrammar({ properties });
    const begun = performance.now();
    expect(grammars.allows(grammar, '{"property 3": "a", "property 199": null}')).toBe(true);
    expect(performance.now() - begun).toBeLessThan(2000);
  });
});

it.each([
  ['a rule that is missing', 'root ::= other'],
  ['left recursion', 'root ::= root "a" | "b"'],
  ['no root', 'start ::= "a"'],
  ['nothing', ''],
  ['too many parentheses', `root ::= ${'('.repeat(5000)}"a"${')'.repeat(5000)}`],
  ['too much', `root ::= "${'a'.repeat(300_000)}"`],
  ['a NUL', 'root ::= "a\0"'],
])('refuses a grammar with %s', (_, grammar) => {
  expect(() => grammars.factory.parse(grammar)).toThrow(expect.objectContaining({ code: 'INVALID_INPUT' }));
});
