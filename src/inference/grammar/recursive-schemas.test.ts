import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PocketGrammars } from '../../../test/support/pocket-grammars.js';
import { jsonSchemaToGrammar } from './json-schema-grammar.js';

const DEPTH = 30;
const TOKEN_MS = 50;
const TOTAL_MS = 5000;

let grammars: PocketGrammars;

beforeAll(async () => {
  grammars = await PocketGrammars.load();
  // The first look at all tokens sorts the vocabulary.
  const constraint = grammars.factory.parse('root ::= "a"');
  constraint.forbid(new Float32Array(grammars.model.tokenizer.vocabularySize));
  constraint.dispose();
});
afterAll(() => grammars.dispose());

/** The longest that a token of a text took, all times together, and whether the text may end there. */
function follow(schema: unknown, text: string): { tokenMs: number; totalMs: number; isWhole: boolean } {
  const { factory, model } = grammars;
  const { tokenizer } = model;
  const constraint = factory.parse(jsonSchemaToGrammar(schema));
  const logits = new Float32Array(tokenizer.vocabularySize);
  let [tokenMs, totalMs] = [0, 0];
  try {
    for (const token of tokenizer.encode(text)) {
      const begun = performance.now();
      if (!constraint.allows(token)) throw new Error(`${tokenizer.decode([token])} is refused`);
      constraint.accept(token);
      constraint.forbid(logits)();
      const ms = performance.now() - begun;
      tokenMs = Math.max(tokenMs, ms);
      totalMs += ms;
      if (tokenMs > TOKEN_MS) break;
    }
    return { tokenMs, totalMs, isWhole: constraint.allows(tokenizer.eosToken!) };
  } finally {
    constraint.dispose();
  }
}

const nested = (open: string, leaf: string, close: string) => open.repeat(DEPTH) + leaf + close.repeat(DEPTH);
const itself = { $ref: '#' };
const text = { type: 'string' };
const number = { type: 'number' };
const arrayOf = (items: unknown, minItems = 0) => ({ type: 'array', items, minItems });
const object = (properties: object, required = Object.keys(properties)) => ({ type: 'object', properties, required });
const constant = (value: string) => ({ const: value });
const range = (count: number) => Array.from({ length: count }, (_, index) => index);

const operation = (sign: string) => object({ left: { $ref: '#/$defs/e' }, op: constant(sign), right: { $ref: '#/$defs/e' } });
const expression = { $ref: '#/$defs/e', $defs: { e: { anyOf: [number, ...['+', '-', '*', '/'].map(operation)] } } };
const group = {
  $ref: '#/$defs/group',
  $defs: {
    group: object({ type: constant('group'), parts: arrayOf({ $ref: '#/$defs/part' }) }),
    part: { anyOf: [{ $ref: '#/$defs/group' }, object({ type: constant('gap'), size: number }), { $ref: '#/$defs/link' }] },
    link: object({ type: constant('link'), to: { $ref: '#/$defs/group' } }),
  },
};

describe('a schema that contains itself is followed quickly, however deep', () => {
  it.each<[string, unknown, string]>([
    ['equal alternatives', { anyOf: range(8).map(() => arrayOf(itself, 1)) }, '['.repeat(40)],
    ['operations', expression, nested('{"left":', '1', ',"op":"*","right":-2.5}')],
    ['groups of groups', group, nested('{"type":"group","parts":[{"type":"link","to":', '{"type":"group","parts":[]}', '}]}')],
    [
      'kinds that share letters',
      {
        anyOf: [
          object({ op: { enum: ['not', 'neg'] }, of: itself }),
          object({ op: { enum: ['nand'] }, l: itself, r: itself }),
          number,
        ],
      },
      nested('{"op":"nand","l":0,"r":{"op":"not","of":', '1', '}}'),
    ],
    [
      'optional properties before those that differ',
      {
        anyOf: [object({ id: text, note: text, a: itself }, ['a']), object({ id: text, size: number, b: itself }, ['b']), number],
      },
      nested('{"id":"x","b":{"note":"","a":', '1', '}}'),
    ],
    [
      'known and other properties',
      { properties: { a: itself }, additionalProperties: itself },
      nested('{"a":{"ab":', '{}', '}}'),
    ],
    ['arrays of texts or of these', { anyOf: [text, arrayOf(text), arrayOf(itself)] }, nested('["a",', '"b"', ']')],
    [
      'a leaf that reads like a node until its second property',
      { anyOf: [object({ kind: constant('leaf'), value: number }), object({ kind: text, parts: arrayOf(itself) })] },
      nested('{"kind":"leaf","parts":[', '{"kind":"leaf","value":1}', ']}'),
    ],
    [
      'as many optional properties as there may be',
      { properties: Object.fromEntries(range(95).map((i) => [`key ${i}`, itself])) },
      nested('{"key 7":', '{}', '}'),
    ],
  ])('%s', (name, schema, written) => {
    const { tokenMs, totalMs, isWhole } = follow(schema, written);
    expect(tokenMs).toBeLessThan(TOKEN_MS);
    expect(totalMs).toBeLessThan(TOTAL_MS);
    expect(isWhole).toBe(name !== 'equal alternatives');
  });

  it('with values of which many begin alike', () => {
    const { tokenMs, isWhole } = follow(arrayOf({ enum: range(12_000).map((i) => 10_000 + i) }), '[10000, 17345, 21999]');
    expect(tokenMs).toBeLessThan(TOKEN_MS);
    expect(isWhole).toBe(true);
  });
});

const chain = (length: number, link: (next: object) => object[]) => ({
  $ref: '#/$defs/a0',
  $defs: Object.fromEntries(
    range(length + 1).map((i) => [`a${i}`, i === length ? number : { anyOf: link({ $ref: `#/$defs/a${i + 1}` }) }]),
  ),
});

describe('schemas that could be followed in ever more ways are refused', () => {
  const ambiguous = 'has alternatives which begin alike and contain themselves';
  const short = { type: 'string', maxLength: 5 };
  it.each<[string, unknown, string]>([
    ['two that lead back', { anyOf: [object({ a: short, b: itself }), object({ a: text, c: itself })] }, `# ${ambiguous}`],
    [
      'two that lead back, further inside',
      { properties: { x: { oneOf: [object({ a: short, b: itself }), object({ a: text, c: itself })] } } },
      `#/properties/x ${ambiguous}`,
    ],
    ['one that leads back beside any value', { anyOf: [text, { type: 'array' }, arrayOf(itself)] }, `# ${ambiguous}`],
    [
      'doubling without an end to itself',
      chain(20, (next) => [{ type: 'object', additionalProperties: next }, { properties: { a: next } }]),
      'can be followed in more than 250 ways at once',
    ],
    [
      'many optional properties',
      { properties: Object.fromEntries(range(300).map((i) => [`p${i}`, number])) },
      'more than 250 ways',
    ],
    ['many, in itself', { properties: Object.fromEntries(range(120).map((i) => [`p${i}`, itself])) }, 'more than 100 ways'],
  ])('%s', (_, schema, message) => {
    const begun = performance.now();
    expect(() => jsonSchemaToGrammar(schema)).toThrow(
      expect.objectContaining({ code: 'INVALID_INPUT', message: expect.stringContaining(message) }),
    );
    expect(performance.now() - begun).toBeLessThan(1000);
  });

  it('but equal ones are one', () => {
    const { tokenMs, isWhole } = follow(
      chain(25, (next) => [next, next]),
      '1',
    );
    expect(tokenMs).toBeLessThan(TOKEN_MS);
    expect(isWhole).toBe(true);
  });
});

describe('long names end neither the process nor its patience', () => {
  const named = (keys: number, length: number) => ({
    properties: Object.fromEntries(range(keys).map((i) => [`${'x'.repeat(length)}${i}`, { type: 'null' }])),
    additionalProperties: { type: 'null' },
  });
  it.each<[string, unknown]>([
    ['1 key of 20,000 characters', named(1, 20_000)],
    ['100 keys of 3,000', named(100, 3000)],
    ['400 keys of 2,500', named(400, 2500)],
    [
      'many keys below a long one',
      { properties: { ['x'.repeat(400_000)]: { properties: Object.fromEntries(range(40_000).map((i) => [`a${i}`, true])) } } },
    ],
    ['values that each continue the one before', { enum: range(1400).map((i) => 'a'.repeat(i)) }],
  ])('%s', (_, schema) => {
    const begun = performance.now();
    expect(() => jsonSchemaToGrammar(schema)).toThrow(expect.objectContaining({ code: 'INVALID_INPUT' }));
    expect(performance.now() - begun).toBeLessThan(100);
  });

  it('nor does a schema that many refer to', () => {
    const wide = object(Object.fromEntries(range(500).map((i) => [`a${i}`, number])));
    const anyOf = range(2000).map(() => ({ allOf: [{ $ref: '#/$defs/a' }, object({ z: number })] }));
    expect(() => jsonSchemaToGrammar({ anyOf, $defs: { a: wide } })).toThrow(
      expect.objectContaining({ message: expect.stringContaining('more than 10000 schemas') }),
    );
  });

  it('and are cut in messages', () => {
    const key = 'x'.repeat(10_000);
    expect(() => jsonSchemaToGrammar({ properties: { [key]: { properties: { [key]: 1 } } } })).toThrow(
      expect.objectContaining({ message: expect.stringMatching(/^.{1,400}$/) }),
    );
  });
});
